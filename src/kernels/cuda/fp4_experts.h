#pragma once

#include "kernels/activation.h"
#include "kernels/cuda/fp4.h"

namespace facet::cuda {

/// One expert; gate and up share x, quantised with `x_scale`, `down` takes what `inner_scale`
/// makes of act(gate) * up. Alpha of a product: its input scale times its global scale.
struct Fp4Expert {
  Fp4Operand gate;  ///< [F, H]
  Fp4Operand up;    ///< [F, H]
  Fp4Operand down;  ///< [H, F]
  float gate_alpha = 1.0F;
  float up_alpha = 1.0F;
  float down_alpha = 1.0F;
  float x_scale = 1.0F;
  float inner_scale = 1.0F;
};

/// The routed experts of one layer on the device.
struct Fp4Layer {
  const Fp4Expert* experts = nullptr;  ///< [E]
  ActivationFunction function = ActivationFunction::kGeluTanh;
  int32_t count = 0;   ///< E
  int32_t hidden = 0;  ///< H, a multiple of 32
  int32_t width = 0;   ///< F, a multiple of 32
};

/// experts() in W4A4, gated: out[t] = sum over j of weights[t, j] * down · act(gate · x, up · x) in
/// the order of j. A row's result depends on its own x and routing alone as far as fp4_products()
/// keeps to that.
struct Fp4ExpertsCall {
  Fp4Layer layer;
  float* out = nullptr;             ///< [rows, H]
  const float* x = nullptr;         ///< [rows, H]
  const int32_t* chosen = nullptr;  ///< [rows, top_k], device
  const float* weights = nullptr;   ///< [rows, top_k], device
  int32_t rows = 0;
  int32_t top_k = 0;
  std::byte* workspace = nullptr;  ///< fp4_experts_workspace_bytes(), 256-aligned
};
void fp4_experts(cudaStream_t stream, const Fp4ExpertsCall& call);
int64_t fp4_experts_workspace_bytes(const Fp4Layer& layer, int32_t rows, int32_t top_k);

}  // namespace facet::cuda
