#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kernels/backend.h"

namespace facet::cuda {

struct CudaOptions {
  /// Repeat recorded steps as CUDA graphs where possible; off: every op is launched by itself.
  bool graphs = true;
};

/// Every op on the GPU that CUDA counts first (CUDA_VISIBLE_DEVICES chooses). Activations are
/// float32. linear() and experts() round what goes into a product to BF16 and sum in float32, the
/// weights exact; attention, norms, softmax and routing are in float32 throughout. Ops only
/// enqueue; end_step() waits. Operands other than tensors must be known: matrices, vectors and row
/// lists from load(), the integers of the step from begin_step(). One caller at a time.
///
/// Throws Error{kDevice} with the reason of unavailable().
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options = {});

/// Why make_cuda_backend() would fail, in one line: no such build, no GPU, driver or GPU too old.
/// nullopt if it would not.
std::optional<std::string> unavailable();

/// Memory of the GPU, in bytes.
struct DeviceMemory {
  int64_t free = 0;
  int64_t total = 0;
};
/// {0, 0} where there is no GPU.
DeviceMemory device_memory();

}  // namespace facet::cuda
