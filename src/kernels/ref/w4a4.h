#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/weight_matrix.h"
#include "tensor/tensor.h"

namespace facet::ref {

/// One row of activations as FP4 tensor cores take it.
struct Fp4Row {
  std::vector<uint8_t> codes;   ///< E2M1 [n], one a byte
  std::vector<uint8_t> scales;  ///< E4M3 [n / 16]
};

/// checkpoint-formats 2.7 (FlashInfer, without its approximate reciprocals). Per block of 16 with
/// m = amax(|block|), g = 1 / input_scale: scale = e4m3(g * m / 6), k = g / scale, or 0 where the
/// scale is 0; code = e2m1(x * k), nearest even, saturating. input_scale > 0, x.size() a multiple
/// of 16 (CHECKed). Code times scale times input_scale is what quantize_activation_nvfp4 gives.
Fp4Row quantize_fp4_row(std::span<const float> x, float input_scale);

/// out = (Fp4Row of x) · wᵀ: sum over blocks of scale_x * scale_w * (sum of the block's products of
/// codes, which is exact), times input_scale * global_scale once at the end. Sums in double,
/// rounded once: what W4A4 kernels compute but for the order of their float32 sums. Another
/// function than linear(), which leaves x as it is.  x [T, in], w [out, in] in NVFP4 with an
/// input_scale (CHECKed), out [T, out].
void linear_w4a4(TensorView out, TensorView x, const WeightMatrix& w);

}  // namespace facet::ref
