// Which kernels run, in words, and what the GPU can do at best.

#include <algorithm>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/peaks.h"

namespace facet::cuda {

KernelChoice CudaBackend::linear_kernel(WeightFormat format) const {
  switch (format) {
    case WeightFormat::kBF16:
    case WeightFormat::kFp8:
      return {"cuda, tensor cores", "weights as stored; streamed for up to 8 rows, else in tiles"};
    case WeightFormat::kNvfp4:
      return {"cuda, tensor cores", "repacked at load, decoded to BF16, which holds every value"};
    default:
      return {"cuda, plain product", "no faster kernel reads this format"};
  }
}

KernelChoice CudaBackend::experts_kernel(WeightFormat format, const Activation& activation) const {
  ExpertsLayer layer;
  layer.format = format;
  layer.activation = activation;
  if (experts_fit(layer))
    return {"cuda, tensor cores", "each chosen expert's weights are read once for all its rows"};
  return {"cuda, plain experts", "no faster kernel takes this format and activation"};
}

KernelChoice CudaBackend::attention_kernel(DType kv) const {
  if (kv == DType::kBF16 || kv == DType::kF8E4M3) {
    return {"cuda, tensor-core tiles",
            kv == DType::kBF16 ? "the cache is BF16; for heads of 256 and 512, else plain"
                               : "BF16 holds every E4M3; for heads of 256 and 512, else plain"};
  }
  return {"cuda, plain", "the tensor-core tiles take a cache of BF16 or FP8"};
}

std::optional<DevicePeaks> CudaBackend::measure_peaks() {
  const int64_t bytes = std::min(device_memory().free / 2, int64_t{2} << 30);
  const Buffer data(bytes, device_allocator());
  return DevicePeaks{measure_read(stream_, data.data(), bytes),
                     measure_products(stream_, reinterpret_cast<float*>(data.data()))};
}

}  // namespace facet::cuda
