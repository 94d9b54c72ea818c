#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// What a launch has to move through the GPU's memory at least: each operand once.
struct Traffic {
  int64_t bytes = 0;
  int64_t expert_bytes = 0;  ///< beside those, for each of the experts that its rows chose
};

/// Told of every launch() of a thread, right after it, on the same stream.
class LaunchWatch {
 public:
  LaunchWatch(const LaunchWatch&) = delete;
  LaunchWatch& operator=(const LaunchWatch&) = delete;

  /// That of this thread; nullptr: nobody watches.
  static LaunchWatch* current();

  virtual void launched(cudaStream_t stream, const char* kernel, const Traffic& traffic) = 0;

 protected:
  LaunchWatch() = default;
  ~LaunchWatch() = default;
  static void set_current(LaunchWatch* watch);
};

}  // namespace facet::cuda
