#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace facet::http {

/// What one connection may cost (reliability 2.1: C-01 to C-16). Bytes, unless said otherwise.
struct Limits {
  size_t request_line = 8 << 10;
  size_t head = 16 << 10;  ///< request line and fields together
  size_t field = 8 << 10;
  int32_t fields = 64;
  size_t chunk_extension = 256;
  int32_t chunks = 16384;
  size_t drained = 64 << 10;    ///< of a body that is not wanted: read and dropped
  size_t pipelined = 64 << 10;  ///< read ahead while an answer is under way
  int32_t pipelined_requests = 4;
  size_t unsent = 256 << 10;  ///< of a stream whose reader is slow, with what the system holds
  size_t system_unsent = 64 << 10;  ///< of that: where the system takes no more
  int32_t requests = 1000;          ///< on one connection
  int32_t connections = 10000;
  int32_t connections_per_address = 256;  ///< loopback is exempt

  using Seconds = std::chrono::seconds;
  Seconds head_time{10};
  Seconds idle_time{60};       ///< between two requests
  Seconds body_time{60};       ///< for a whole body
  Seconds body_window{10};     ///< over which the body's rate is measured
  size_t body_rate = 1 << 10;  ///< least bytes per second
  Seconds stall_time{30};      ///< without a byte taken by the reader
  Seconds linger_time{2};      ///< for the peer to read a last answer
};

}  // namespace facet::http
