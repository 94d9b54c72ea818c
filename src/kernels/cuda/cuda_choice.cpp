// Which kernels run, in words, and what the GPU can do at best.

#include <algorithm>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/peaks.h"

namespace facet::cuda {

KernelChoice CudaBackend::linear_kernel(WeightFormat /*format*/) const {
  return {"cuda, plain product", "the only kernel so far: any format, float32 sums"};
}

KernelChoice CudaBackend::experts_kernel(WeightFormat /*format*/,
                                         const Activation& /*activation*/) const {
  return {"cuda, plain experts", "the only kernel so far: any format, float32 sums"};
}

KernelChoice CudaBackend::attention_kernel(DType kv) const {
  if (kv == DType::kBF16)
    return {"cuda, tensor-core tiles", "the cache is BF16; for heads of 256 and 512, else plain"};
  return {"cuda, plain", "the tensor-core tiles take a BF16 cache only"};
}

std::optional<DevicePeaks> CudaBackend::measure_peaks() {
  const int64_t bytes = std::min(device_memory().free / 2, int64_t{2} << 30);
  const Buffer data(bytes, device_allocator());
  return DevicePeaks{measure_read(stream_, data.data(), bytes),
                     measure_products(stream_, reinterpret_cast<float*>(data.data()))};
}

}  // namespace facet::cuda
