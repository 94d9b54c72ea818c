#pragma once

// What every file of this folder builds on: checked calls, sizes of launches. The rest of the tree
// sees cuda_backend.h only.
//
// Conventions of kernels here:
// - a launcher is a free function `void op(cudaStream_t stream, …)` in op.h, with its kernels in
//   op.cu; it takes device pointers and sizes, enqueues, and never waits, allocates or copies, so
//   that it can be captured into a graph. Workspace comes in as a pointer; its size comes from a
//   function `op_workspace_bytes(…)`.
// - activations are float32, row-major, contiguous; every tensor of the backend starts at 256
// bytes.
// - a WeightMatrix with device pointers is passed by value. Its data and scales start at 256 bytes
//   where they were loaded whole; a slice of rows starts at row_bytes() times a row.
// - what depends on the step (ids, positions, page tables) is read from device memory, never given
//   by value: a graph is replayed with other contents.
// - a row's result may not depend on other rows of the launch: sums have a fixed order that follows
//   from the row's own sizes and positions.

#include <cstdint>

#include <cuda_runtime_api.h>

namespace facet::cuda {

/// Throws Error{kDevice}, or Error{kOutOfMemory}, "WHAT: the driver's words", unless all is well.
void check(cudaError_t result, const char* what);

/// To be called after each launch: `kernel` names it in the message.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

constexpr int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }
constexpr int64_t round_up(int64_t value, int64_t to) { return ceil_div(value, to) * to; }

/// Whether the device is a Hopper GPU, whose warpgroup products (wgmma.cuh) no other has.
bool device_has_wgmma();

/// A grid's extent. CHECKs that it is one.
unsigned grid(int64_t blocks);

/// Compute capability of the GPU, times ten: 90, 120. Of the first question on; one GPU a process.
int architecture();
/// Whether CTAs can form clusters, and launches overlap with the one before: from sm_90 on.
inline bool has_clusters() { return architecture() >= 90; }
/// Multiprocessors of the GPU.
int multiprocessors();
/// Dynamic shared memory that one CTA can be given, in bytes.
int most_shared_bytes();

/// Lanes of a warp, as everywhere.
inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

}  // namespace facet::cuda
