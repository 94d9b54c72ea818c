#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

/// Is a matched stop string cut from the text or kept at its end?
enum class StopText { kCut, kKeep };

/// Finds stop strings in text that arrives in pieces. The match that starts first wins, and of
/// several that start together the shortest; how the text is split makes no difference. Text that
/// could still become a stop string is held back.
class StopStrings {
 public:
  StopStrings() = default;
  /// Empty strings in `stops` never match.
  explicit StopStrings(std::vector<std::string> stops, StopText mode = StopText::kCut);

  /// Takes whole characters; returns the text that is now certain. Nothing comes after a match.
  std::string push(std::string_view text);
  /// No more text will join what is held: returns it, or what remains of it before a match.
  std::string flush();

  /// Bytes held back.
  size_t held() const { return held_.size(); }
  /// The stop string found, if one was.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  enum class Tail { kMayGrow, kComplete };
  std::string settle(Tail tail);

  std::vector<std::string> stops_;
  StopText mode_ = StopText::kCut;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace facet
