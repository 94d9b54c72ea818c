#include "kernels/backend.h"

namespace facet {

KernelChoice Backend::linear_kernel(WeightFormat /*format*/) const {
  return {std::string(describe()), "the only kernel of this backend"};
}

KernelChoice Backend::experts_kernel(WeightFormat format, const Activation& /*activation*/) const {
  return linear_kernel(format);
}

KernelChoice Backend::attention_kernel(DType /*kv*/) const {
  return {std::string(describe()), "the only kernel of this backend"};
}

void Backend::add_rms_norm(
    TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) {
  rms_norm(h, h, weight, eps);
  add(x, h);
  if (factor != 1.0F) scale(x, factor);
}

void Backend::join_branches(TensorView dense,
                            TensorView sparse,
                            std::span<const float> dense_weight,
                            std::span<const float> sparse_weight,
                            float eps) {
  rms_norm(dense, dense, dense_weight, eps);
  rms_norm(sparse, sparse, sparse_weight, eps);
  add(dense, sparse);
}

}  // namespace facet
