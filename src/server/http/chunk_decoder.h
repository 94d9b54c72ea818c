#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/limits.h"
#include "server/http/message.h"

namespace facet::http {

/// Reads a chunked body (RFC 9112, section 7.1) as it arrives. Stricter than that: no blanks around
/// sizes, extensions and fields at the end are checked for their characters and dropped (C-07).
/// Our own because Beast's parser aborts where the last chunk arrives in certain pieces (its
/// assertion n >= 5, 1.81).
class ChunkDecoder {
 public:
  explicit ChunkDecoder(const Limits& limits) : limits_(limits) {}

  /// Takes bytes up to the end of the body and appends what they hold to `body`, which may grow to
  /// `limit` bytes. Returns how many were taken; with a fault that means nothing.
  size_t take(std::string_view data, uint64_t limit, std::string& body);
  bool done() const { return state_ == State::kDone; }
  const std::optional<Fault>& fault() const { return fault_; }

 private:
  enum class State { kSize, kData, kDataEnd, kTrailer, kDone };

  size_t take_line(std::string_view data);
  void end_size(uint64_t limit, size_t body_bytes);
  void end_trailer();

  const Limits& limits_;
  State state_ = State::kSize;
  std::optional<Fault> fault_;
  std::string line_;  // of sizes and trailers, without its end
  bool return_seen_ = false;
  uint64_t left_ = 0;  // of the chunk's data
  int32_t chunks_ = 0;
  int32_t trailers_ = 0;
  size_t trailer_bytes_ = 0;
};

}  // namespace facet::http
