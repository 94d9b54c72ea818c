#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kernels/backend.h"
#include "kernels/gpu_fault.h"
#include "kernels/kernel_choice.h"

namespace facet::cuda {

struct CudaOptions {
  /// Repeat recorded steps as CUDA graphs where possible; off: every op is launched by itself.
  bool graphs = true;
  /// Kernels that were asked for. One that cannot be is refused by the backend's KernelChooser, and
  /// not met by its ops.
  KernelWishes wishes = {};
  /// The step, counted from 1, in which a kernel writes out of range; 0: none. For tests.
  int64_t fault_step = 0;
};

/// Every op on the GPU that CUDA counts first (CUDA_VISIBLE_DEVICES chooses). Activations are
/// float32. linear() and experts() round what goes into a product to BF16 and sum in float32, the
/// weights exact; attention, norms, softmax and routing are in float32 throughout. Ops only
/// enqueue; end_step() waits. Operands other than tensors must be known: matrices, vectors and row
/// lists from load(), the integers of the step from begin_step(). One caller at a time.
///
/// Throws Error{kDevice} with the reason of unavailable().
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options = {});

/// Why make_cuda_backend() would fail, in one line: no such build, no GPU, driver or GPU too old,
/// taken by another process (gpu_fault.h).
/// nullopt if it would not.
std::optional<std::string> unavailable();
/// Whether this build has the backend at all.
bool is_built();

/// The GPU, without wishes. CHECKs that there is one.
GpuSetup gpu_setup();

/// Whether this build has a kernel for FP4 tensor cores of such a GPU.
bool has_fp4_kernel(ComputeCapability device);

/// {0, 0} where there is no GPU.
DeviceMemory device_memory();

}  // namespace facet::cuda
