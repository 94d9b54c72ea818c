#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "kernels/activation.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/kv_view.h"
#include "quant/weight_matrix.h"

namespace facet::cpu {

/// Columns under one scale of the INT8 matrices that have a fast product.
inline constexpr int32_t kInt8Columns = 64;

/// How a product wants x: plain codes in the order of the columns; 4-bit codes (but for INT4 groups
/// of other than multiples of 16 columns) in the order in which they leave a register.
enum class XOrder { kColumns, kNibbles };
inline constexpr int kXOrders = 2;
XOrder x_order(const WeightMatrix& w);
/// Floats of one arranged row of x.
int64_t arranged_size(int64_t cols);

/// out[t][r] = x[t] · w[r] for rows [row_begin, row_end) of w. x[t]: [w.cols]
/// as `arrange` gives it, at a multiple of 64 bytes; out[t]: [w.rows].
/// Whatever the other rows of x are, and however w's rows are split over calls, out[t][r] has the
/// same bits.
struct LinearArgs {
  const WeightMatrix* w = nullptr;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  std::span<const float* const> x;  // [T]
  std::span<float* const> out;      // [T]
};

/// Positions that one call of `attend` covers. Their boundaries are absolute positions, so what a
/// row sees in one does not depend on where the row's step began.
inline constexpr int64_t kAttentionPart = 256;
/// Positions whose keys or values are floats at a time.
inline constexpr int64_t kAttentionTile = 8;
/// Queries (pairs of a row and a head) of one call.
inline constexpr int32_t kMaxQueries = 16;

/// One query against the visible positions [begin, end) of one part. Where begin >= end the query
/// sees nothing and its outputs stay as they are.
struct AttendQuery {
  const float* q = nullptr;  // [D]
  int64_t begin = 0;
  int64_t end = 0;
  float max = 0.0F;      ///< out: the largest score
  float sum = 0.0F;      ///< out: sum of exp(score - max)
  float* acc = nullptr;  // [D], out: sum of exp(score - max) * v
};

/// All queries share a KV head and a sequence; all ranges lie in one part.
struct AttendArgs {
  std::span<AttendQuery> queries;  // at most kMaxQueries
  const KvView* kv = nullptr;
  std::span<const PageId> pages;  // of the sequence
  int32_t kv_head = 0;
  float* scratch = nullptr;  // [attend_scratch(D)]
};

/// Floats of scratch that one thread needs for `attend`, any instruction set.
int64_t attend_scratch(int32_t head_dim);

/// Bytes that KernelTable::read takes at a time.
inline constexpr int64_t kReadStep = 256;

/// The kernels of one instruction set. All work on one thread; arrays may lie at any alignment
/// their type allows. n: elements.
struct KernelTable {
  void (*linear)(const LinearArgs& args) = nullptr;
  /// out[arranged_size(cols)] = x[cols] in the order wanted, then zeros.
  void (*arrange)(XOrder order, const float* x, int64_t cols, float* out) = nullptr;

  void (*attend)(const AttendArgs& args) = nullptr;
  /// out = out * a + x * b.
  void (*blend)(float* out, float a, const float* x, float b, int64_t n) = nullptr;

  /// out = x * (mean(x²) + eps)^(-1/2) * weight; weight may be null. out may be x.
  void (*rms_norm)(float* out, const float* x, const float* weight, int64_t n, float eps) = nullptr;
  /// x[i], x[i + half] = x[i] cos[i] - x[i + half] sin[i], x[i + half] cos[i] + x[i] sin[i],
  /// i < angles.
  void (*rotate)(float* x, const float* cosines, const float* sines, int64_t angles, int64_t half) =
      nullptr;
  /// out = f(gate) * up, or f(up) for plain activations (gate is not read). out may be either.
  void (*activate)(float* out,
                   const float* gate,
                   const float* up,
                   int64_t n,
                   const Activation& activation) = nullptr;
  /// x += y.
  void (*add)(float* x, const float* y, int64_t n) = nullptr;
  /// x *= factor.
  void (*scale)(float* x, float factor, int64_t n) = nullptr;
  /// out = x * y * factor, in that order. out may be either.
  void (*multiply)(float* out, const float* x, const float* y, float factor, int64_t n) = nullptr;
  /// x = cap * tanh(x / cap).
  void (*soft_cap)(float* x, float cap, int64_t n) = nullptr;
  /// x = exp(x - max) / sum.
  void (*softmax)(float* x, int64_t n) = nullptr;

  /// quant's encode_nvfp4_row and encode_int8_row, the same bytes. w: [cols], finite; cols of NVFP4
  /// a multiple of 16; group a multiple of 16.
  void (*encode_nvfp4)(
      const float* w, int64_t cols, float global_scale, uint8_t* codes, uint8_t* scales) = nullptr;
  void (*encode_int8)(
      const float* w, int64_t cols, int32_t group, int8_t* codes, uint16_t* scales) = nullptr;

  // For measuring the machine. What they return keeps their work from being dropped.
  /// Loads bytes [0, bytes), a multiple of kReadStep, as vectors.
  uint64_t (*read)(const std::byte* data, int64_t bytes) = nullptr;
  /// rounds * burst_flops operations: independent chains of fused multiply-adds, in registers.
  float (*burst)(int64_t rounds) = nullptr;
  int64_t burst_flops = 0;
};

/// `isa` must be one of supported_isas().
KernelTable kernel_table(Isa isa);

// Each kernel file fills in its part.
void set_linear_kernels(Isa isa, KernelTable& table);
void set_attention_kernels(Isa isa, KernelTable& table);
void set_elementwise_kernels(Isa isa, KernelTable& table);
void set_encode_kernels(Isa isa, KernelTable& table);
void set_peak_kernels(Isa isa, KernelTable& table);

}  // namespace facet::cpu
