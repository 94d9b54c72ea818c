// Which kernels run, in words, and what the GPU can do at best.

#include <algorithm>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/fp4.h"
#include "kernels/cuda/peaks.h"

namespace facet::cuda {

KernelChoice CudaBackend::linear_kernel(const WeightMatrix& matrix) const {
  return kernels_.linear_kernel(matrix);
}

KernelChoice CudaBackend::experts_kernel(const ExpertWeights& experts,
                                         const Activation& activation) const {
  return kernels_.experts_kernel(experts, activation);
}

KernelChoice CudaBackend::attention_kernel(const AttentionShape& shape) const {
  return kernels_.attention_kernel(shape);
}

std::optional<KernelChoice> CudaBackend::step_kernel(const StepQuery& query) const {
  return kernels_.step_kernel(query);
}

bool has_fp4_kernel(ComputeCapability device) {
  return has_fp4_cores(10 * device.major + device.minor);
}

std::optional<DevicePeaks> CudaBackend::measure_peaks() {
  const int64_t bytes = std::min(device_memory().free / 2, int64_t{2} << 30);
  const Buffer data(bytes, device_allocator());
  return DevicePeaks{measure_read(stream_, data.data(), bytes),
                     measure_products(stream_, reinterpret_cast<float*>(data.data()))};
}

}  // namespace facet::cuda
