#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/cuda/bands.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/gpu_limits.h"
#include "kernels/product_form.h"
#include "quant/format.h"

namespace facet::cuda {

/// One expert as experts() reads it. All pointers on the device, at 16 bytes.
struct ExpertPointers {
  /// NVFP4: gate and up together, nvfp4_pair_tiles_bytes(width, hidden) (repack.h makes them).
  /// BF16: the gate, [width, hidden].
  const std::byte* gate = nullptr;
  const std::byte* up = nullptr;    ///< BF16: [width, hidden]; NVFP4: not read
  const std::byte* down = nullptr;  ///< [hidden, width]; NVFP4: as tiles
  float gate_scale = 1.0F;          ///< global scales of NVFP4; each its own, 1 for BF16
  float up_scale = 1.0F;
  float down_scale = 1.0F;
};

/// The routed experts of one layer on the device.
struct ExpertsLayer {
  WeightFormat format = WeightFormat::kNvfp4;  ///< of all matrices
  Activation activation;
  int32_t count = 0;                        ///< E
  int32_t hidden = 0;                       ///< H
  int32_t width = 0;                        ///< F
  const ExpertPointers* experts = nullptr;  ///< [E], device
  ProductForm form = ProductForm::kByTokens;
};

/// A router's logits from which experts() is to choose, as route() would.
struct ExpertsChoice {
  const float* logits = nullptr;            ///< [rows, E]; as ExpertsCall::chosen
  const float* per_expert_scale = nullptr;  ///< [E]
  int32_t* experts = nullptr;               ///< [rows, top_k]: written, and
  float* weights = nullptr;                 ///< [rows, top_k], for whoever asks
  /// A count, which becomes `routers` once logits and x are there, while the kernel before may
  /// still be at work on what `beside` reads; it is left as 0. Null: they are there after that.
  int32_t* routed = nullptr;
  int32_t routers = 0;
};

struct ExpertsCall {
  ExpertsLayer layer;
  float* out = nullptr;             ///< [rows, H]
  const float* x = nullptr;         ///< [rows, H]
  const int32_t* chosen = nullptr;  ///< [rows, top_k], device; distinct within a row
  const float* weights = nullptr;   ///< [rows, top_k], device; as `chosen` from before the last
                                    ///< kernel, or by it
  int32_t rows = 0;
  int32_t top_k = 0;
  std::byte* workspace = nullptr;  ///< experts_workspace_bytes(…), 256-aligned
  Overlap overlap = Overlap::kNo;
  /// A product that neither needs nor feeds the experts, computed beside them; null: none.
  const LinearArgs* beside = nullptr;
  /// Two zeros, which the kernels leave as zeros. With them one row takes one launch instead of
  /// two, whose CTAs wait for each other. Null: two.
  int32_t* arrivals = nullptr;
  /// With logits `chosen` and `weights` are not read. Only where experts_choose().
  ExpertsChoice choice = {};
};

/// Whether experts() can compute this: NVFP4 or BF16, GeGLU (tanh) or SwiGLU, hidden and width
/// multiples of 16 (NVFP4) or 8 (BF16).
bool experts_fit(const ExpertsLayer& layer);

/// Whether experts() can choose for itself.
bool experts_choose(const ExpertsLayer& layer, int32_t rows, int32_t top_k);

/// Bytes of workspace that experts() wants for up to `rows` tokens.
int64_t experts_workspace_bytes(const ExpertsLayer& layer, int32_t rows, int32_t top_k);

/// out[t] = sum over j of weights[t, j] * down · act(gate · x[t], up · x[t]) of expert chosen[t,
/// j], in the order of j. x and what enters `down` are rounded to BF16, weights are exact, sums in
/// float32; a row's result depends, bit for bit, on its own x and routing alone, for any number of
/// rows. CHECKs experts_fit.
///
/// Each expert's weights are read once for all tokens that chose it. Up to kStreamPairs choices:
/// one or two kernels that stream the chosen experts' bytes. More: choices are sorted by expert (on
/// the device) and each expert takes tiles of 16 or 80 tokens, in passes of at most kPassRows rows.
/// layer.form may ask for one of these for any number of tokens.
void experts(cudaStream_t stream, const ExpertsCall& call);

inline constexpr int32_t kMostStreamExperts = 128;  ///< that the streaming kernels choose from
inline constexpr int32_t kPassRows = 2048;

}  // namespace facet::cuda
