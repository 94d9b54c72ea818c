#pragma once

// What the timings share.

#include <functional>
#include <string>

#include <cuda_runtime.h>

namespace facet::test {

/// Median microseconds of one replay of a graph of what `body` enqueues.
double time_graph(cudaStream_t stream, const std::function<void()>& body, int replays = 20);

/// A line of the table; the share is of the plain reads measured in the same run.
void print_time(const std::string& name, int tokens, double bytes, double us, double flops);

void time_all_attention(cudaStream_t stream);

}  // namespace facet::test
