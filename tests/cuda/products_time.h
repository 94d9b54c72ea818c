#pragma once

// What the timings share.

#include <functional>
#include <string>

#include <cuda_runtime.h>

#include "tests/cuda/products.h"

namespace facet::test {

/// Median microseconds of one replay of a graph of what `body` enqueues.
double time_graph(cudaStream_t stream, const std::function<void()>& body, int replays = 20);

/// A line of the table; the share is of the plain reads measured in the same run.
void print_time(const std::string& name, int tokens, double bytes, double us, double flops);

/// Prints what each kernel takes that `body` enqueues when it is called `times` times, a line for
/// each kind.
void print_alone(cudaStream_t stream, int times, const std::function<void(int)>& body);

/// What products are timed over.
struct Bench {
  cudaStream_t stream;
  DeviceArray<uint32_t>& weights;  // random bytes, read as anything
  DeviceArray<float>& x;
  DeviceArray<float>& out;
  DeviceArray<std::byte>& workspace;
};

/// The phases of a layer of decode, each as a chain of itself over weights larger than L2.
void time_phases(const Bench& bench, int tokens);
void time_all_attention(cudaStream_t stream);

}  // namespace facet::test
