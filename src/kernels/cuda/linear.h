#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kernels/cuda/fp4.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/residual.h"
#include "kernels/cuda/route.h"
#include "kernels/product_form.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

/// One matrix on the device, its pointers included.
struct LinearWeights {
  WeightMatrix matrix;
  /// NVFP4 in the form of quant/nvfp4_tiles.h (repack.h makes it), read instead of matrix.data and
  /// matrix.scales, which may then be gone; null: there is none, and NVFP4 takes the plain kernel.
  const std::byte* tiles = nullptr;
  ProductForm form = ProductForm::kByTokens;
  Fp4Operand fp4 = {};  ///< of kFp4
};

/// Bytes of workspace that linear() wants for up to `rows` tokens of `cols` values.
int64_t linear_workspace_bytes(int64_t rows, int64_t cols);

struct LinearArgs {
  float* out = nullptr;      ///< [rows, w.rows]
  const float* x = nullptr;  ///< [rows, w.cols]
  LinearWeights w;
  int64_t rows = 0;
  std::byte* workspace = nullptr;  ///< linear_workspace_bytes(rows, w.cols), 256-aligned
  Overlap overlap = Overlap::kNo;
};

/// out = x · wᵀ: x rounded to BF16, the weights exact, sums in float32 and a fixed order. What a
/// row gets depends, bit for bit, on its own x alone, for any number of rows: tensor cores multiply
/// in the same order in all kernels, and partial sums over kChunks parts of K are joined in order.
///
/// Fast for BF16 (cols a multiple of 8), FP8 with a scale per row or one (16) and NVFP4 in tiles;
/// linear_simple() has all others. Up to kStreamRows tokens: bound by the bytes of w, streamed once
/// through rings of shared memory. More: tiles of rows x tokens; by bytes up to some 100 tokens, by
/// the tensor cores beyond.
/// w.form may ask for one of these for any number of tokens.
void linear(cudaStream_t stream, const LinearArgs& args);

/// Tokens that share one pass of the streaming kernels.
inline constexpr int64_t kStreamRows = 16;

/// What linear() would stream beside other work of the same launch: BF16 rows, at most 8 tokens.
std::optional<StreamWork> stream_beside(const LinearArgs& args);

/// The residual stream with a norm of it, on the way into products.
struct NormedStream {
  ResidualArgs stream;          ///< x_out apart from x
  const float* norm = nullptr;  ///< [cols]
  float* h = nullptr;           ///< [rows, cols]: room for the normed stream
  int64_t rows = 0;
  std::byte* workspace = nullptr;  ///< linear_workspace_bytes(rows, cols)
  Overlap overlap = Overlap::kNo;
};

struct LinearOutput {
  LinearWeights w;
  float* out = nullptr;  ///< [rows, w.rows]
};

/// Settles the stream; out = norm · wᵀ for each output, bit for bit as settle() and linear() give
/// it. Few tokens: one launch, each of whose CTAs settles and norms for itself; up to kStreamRows:
/// two. True if the stream then is in x_out, false if it is where it was, in x.
bool project(cudaStream_t stream, const NormedStream& x, std::span<const LinearOutput> outputs);

/// The way into a feed-forward layer: inner = act(gate · h) * (up · h), h the norm of the stream,
/// and what the routed experts need.
struct EnterArgs {
  NormedStream x;
  LinearWeights gate;
  LinearWeights up;
  float* gate_room = nullptr;  ///< [rows, gate.rows]
  float* inner = nullptr;      ///< [rows, gate.rows]
  ActivationFunction function = ActivationFunction::kSilu;
  const RouteArgs* route = nullptr;  ///< null: no experts; its x is the stream
  bool leaves_choice = false;        ///< only the router's logits: who runs the experts chooses
  NormOut sparse;                    ///< what the experts will read
  int32_t* routed = nullptr;         ///< StreamRouter::routed, if the router is part of a product
};
/// CTAs that a router takes as part of a product.
int32_t router_blocks(const RouteArgs& route);
/// True and false as in project(); `routed` counts only if it is true.
bool enter_feed_forward(cudaStream_t stream, const EnterArgs& args);

}  // namespace facet::cuda
