#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

/// Collects every fault of a load, so that one message can name them all (MAP-4).
class FaultReport {
 public:
  void missing(std::string_view tensor, std::string_view wanted);
  void extra(std::string_view tensor, std::string_view why);
  void wrong_shape(std::string_view tensor, std::string_view found, std::string_view wanted);
  void wrong_dtype(std::string_view tensor, std::string_view found, std::string_view wanted);
  /// Anything else: a NaN scale, a contradiction with the quantisation config, …
  void bad(std::string_view tensor, std::string_view message);

  bool empty() const { return lines_.empty(); }
  const std::vector<std::string>& lines() const { return lines_; }
  /// Throws Error{kBadCheckpoint} with a first line that counts the faults and a line for each, if
  /// any.
  void throw_if_any() const;

 private:
  std::vector<std::string> lines_;
};

}  // namespace facet
