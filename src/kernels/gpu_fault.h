#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/kernel_choice.h"

namespace facet {

// Why a GPU cannot be used, or not for what is wanted: from facts alone, so that each case can be
// tested where there is no GPU.

/// What was found of a GPU and its driver before the first use.
struct GpuFacts {
  int32_t driver = 0;   ///< newest CUDA that the driver knows, 1000 * major + 10 * minor; 0: none
  int32_t build = 0;    ///< CUDA of this build, in the same way
  int32_t devices = 0;  ///< that CUDA counts
  std::string count_error;  ///< CUDA's words where counting failed
  std::string name;         ///< of the first
  ComputeCapability capability;
  bool taken = false;         ///< CUDA says that it is busy or may not be used
  std::string context_error;  ///< CUDA's words where its first use failed
  bool has_code = false;      ///< the build holds machine code for it
};

/// Why it cannot be used, one line; nullopt if it can.
std::optional<std::string> find_gpu_fault(const GpuFacts& facts);

/// Memory of the GPU, in bytes.
struct DeviceMemory {
  int64_t free = 0;
  int64_t total = 0;
};
/// "3.0 GB of 150.1 GB free (other processes hold about 147.1 GB)". `own`: of this process.
std::string describe_memory(const DeviceMemory& memory, int64_t own);

/// What a start takes of the GPU's memory, in bytes.
struct GpuNeeds {
  int64_t weights = 0;
  int64_t activations = 0;       ///< and workspace of kernels
  int64_t cache = 0;             ///< keys and values
  std::string cache_flags = {};  ///< what makes `cache` smaller: "--kv-memory or --max-model-len"
};

/// Throws Error{kOutOfMemory} unless `needs` fit into what is free: what is needed, what is there,
/// and which flag helps.
void check_gpu_memory(const GpuNeeds& needs, const DeviceMemory& memory);

}  // namespace facet
