#pragma once

#include <cstdint>

namespace facet::test {

/// How much load the tests make. Two programs are made of them: one takes seconds, for every day,
/// the other has the sizes of docs/serving.md and wants the machine for itself.
struct LoadSize {
  bool timed;  ///< times are held to their limits; else only counts and bytes are
  int32_t streams;
  int32_t disconnects;
  double disconnect_seconds;
  int32_t slow_heads;
  int32_t slow_bodies;
  int32_t stalled_readers;
  double overload_seconds;  ///< FACET_LOAD_OVERLOAD_SECONDS
  int32_t drained_streams;
  int64_t requests;  ///< FACET_LOAD_REQUESTS
  int32_t restarts;
};
LoadSize load_size();

}  // namespace facet::test
