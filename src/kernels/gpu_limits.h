#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "quant/format.h"
#include "quant/nvfp4_tiles.h"

namespace facet {

struct GpuSetup;  // kernel_choice.h

// What the GPU kernels cannot do, known from a model's dimensions before anything is allocated. The
// kernels take their own limits from here, or hold theirs to these by static_assert.

/// The most experts that the router's kernels know, and that they choose for a row.
inline constexpr int64_t kMostExperts = 1024;
inline constexpr int64_t kMostChosen = 32;
/// The widest heads of attention().
inline constexpr int32_t kMostHeadDim = 512;
/// Rows of a matrix: tiles have 64 at least, and a grid is 65,535 of them high at most.
inline constexpr int64_t kMostGridHeight = 65535;
inline constexpr int64_t kMostMatrixRows = 64 * kMostGridHeight;

/// The model's dimensions that have a limit. Names are config.json's; 0: the model has no such
/// thing.
struct GpuDimensions {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t head_dim = 0;         ///< of sliding layers
  int64_t global_head_dim = 0;  ///< of full layers
  int64_t num_experts = 0;
  int64_t top_k_experts = 0;
  int64_t moe_intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t hidden_size_per_layer_input = 0;
  std::vector<WeightFormat> expert_formats = {};  ///< that occur
};

/// Throws Error{kBadCheckpoint} naming the field of config.json, what was found and what is the
/// most, and Error{kUsage} where experts of these dimensions cannot be streamed as was asked.
void check_dimensions(const GpuSetup& setup, const GpuDimensions& model);

// ---- what the streaming kernels take of a CTA's shared memory ----

/// Rows that share a pass of the experts' streaming kernels, and (row, choice) pairs.
inline constexpr int32_t kStreamExpertRows = 8;
inline constexpr int32_t kStreamPairs = 64;
/// What kernels declare themselves, at most: those of one matrix, and of experts.
inline constexpr int64_t kLinearStreamStatic = 1024;
inline constexpr int64_t kExpertsStreamStatic = int64_t{8} << 10;

/// 16 rows and 64 columns, as they stream by.
constexpr int64_t stream_step_bytes(WeightFormat format) {
  if (format == WeightFormat::kNvfp4) return kTileBytes;
  return format == WeightFormat::kBF16 ? 2048 : 1024;
}
/// One row of BF16 values.
constexpr int64_t stream_row_bytes(int64_t cols) { return (cols + 63) / 64 * int64_t{128} + 64; }

/// Beside rows of x: rings of four warps, and their sums.
constexpr int64_t linear_stream_fixed_bytes(WeightFormat format) {
  constexpr int64_t kRoom = int64_t{80} << 10;
  const int64_t ring = 4 * stream_step_bytes(format);
  return std::min<int64_t>(16, kRoom / ring) * ring + 4096;
}
/// Whether a matrix of so many columns can be streamed, one row of x at a time if need be.
constexpr bool linear_stream_fits(WeightFormat format, int64_t cols, int64_t most_shared) {
  return linear_stream_fixed_bytes(format) + stream_row_bytes(cols) <=
         std::min(int64_t{226} << 10, most_shared - kLinearStreamStatic);
}

constexpr int64_t expert_stages(WeightFormat format) {
  return format == WeightFormat::kNvfp4 ? 10 : 4;
}
/// Beside x: rings of eight warps, and the sums of two bands in turn.
constexpr int64_t expert_gate_up_fixed_bytes(WeightFormat format) {
  return 8 * expert_stages(format) * stream_step_bytes(format) + 8192;
}
/// Beside results: rings of sixteen warps, of two pieces at least.
constexpr int64_t expert_down_fixed_bytes(WeightFormat format) {
  const int64_t steps = format == WeightFormat::kNvfp4 ? 8 : 2;
  return 16 * steps * stream_step_bytes(format);
}

struct ExpertsStreamShape {
  WeightFormat format = WeightFormat::kNvfp4;
  int64_t hidden = 0;
  int64_t rows = 0;
  int64_t top_k = 0;
};
/// Whether the experts of so many rows can be streamed in one pass.
constexpr bool experts_stream_fits(const ExpertsStreamShape& shape, int64_t most_shared) {
  constexpr int64_t kRoom = int64_t{100} << 10;
  constexpr int64_t kResultBytes = 64;  // of a pair
  const int64_t pairs = shape.rows * shape.top_k;
  if (shape.rows > kStreamExpertRows || pairs > kStreamPairs) return false;
  const int64_t x = shape.rows * stream_row_bytes(shape.hidden);
  const int64_t gate_up = expert_gate_up_fixed_bytes(shape.format) + x;
  const int64_t down = expert_down_fixed_bytes(shape.format) + pairs * kResultBytes;
  return x <= kRoom && std::max(gate_up, down) + kExpertsStreamStatic <= most_shared;
}

}  // namespace facet
