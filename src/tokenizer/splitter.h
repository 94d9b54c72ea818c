#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace facet {

/// Finds places in a text that no merge can cross, so that the parts may be encoded alone: beside
/// newline runs and before a space behind anything else. A merge (left, right) can cross a place
/// only if the text before it ends with `left` and the text behind it starts with `right`; the few
/// merges whose inner boundary looks like such a place are kept, and where one of them fits there
/// is no cut.
class Splitter {
 public:
  explicit Splitter(std::span<const std::pair<std::string_view, std::string_view>> merges);

  /// The end of the part of `text` that starts at `begin` < text.size(). A space is the same as
  /// U+2581.
  size_t part_end(std::string_view text, size_t begin) const;

 private:
  enum class Kind { kOther, kNewline, kSpace };
  struct Character {
    Kind kind;
    size_t length;
  };

  static Character character_at(std::string_view text, size_t at);
  bool may_cut(Kind before, Kind behind) const;
  bool crossed(std::string_view text, size_t at) const;

  // A rule is off where too many merges break it.
  bool cut_at_newlines_ = true;
  bool cut_before_spaces_ = true;
  std::vector<std::pair<std::string, std::string>> crossings_;  // U+2581 written as a space
  std::array<bool, 256> ends_crossing_half_{};                  // last byte of some left half
};

}  // namespace facet
