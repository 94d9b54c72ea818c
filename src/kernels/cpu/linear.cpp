// out = x · wᵀ for every weight format and instruction set; x as `arrange` gives it.
//
// The sum of one (weight row, token) pair is one vector accumulator that takes the groups of a row
// in order (decode-inl.h), and the lanes are added at the end. All forms keep to that, so they give
// the same bits:
//   direct  up to four tokens: codes become floats in registers, rows are taken whole. Bound by
//           memory.
//   many    more tokens, the same tiles over parts of the columns, so that x comes from the caches.
//           Bound by multiply-adds where registers are enough to hide the decoding (ManyTile).
//   panel   where they are not, and for any other layout: kPanelRows x kBlockCols codes become
//           floats in a small array that all tokens are multiplied with.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cpp"
#include <algorithm>
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/many-inl.h"
#include "kernels/cpu/nibbles-inl.h"
#include "kernels/cpu/panel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

static_assert(Int8Format::kGroupCols == kInt8Columns);

template <class Format, int T>
void direct(const LinearArgs& args) {
  multiply_rows<Format, Format::direct_rows(T), T>(args, {0, args.w->cols});
}

template <class Format>
void panels(const LinearArgs& args) {
  for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
    panel_rows<Format>(args, row, std::min(kPanelRows, args.row_end - row));
  }
}

template <class Format>
void linear_as(const LinearArgs& args) {
  switch (args.x.size()) {
    case 1:
      return direct<Format, 1>(args);
    case 2:
      return direct<Format, 2>(args);
    case 3:
      return direct<Format, 3>(args);
    case 4:
      return direct<Format, 4>(args);
    default:
      break;
  }
  if constexpr (ManyTile<Format>::kMostTokens < kAnyTokens) {
    if (args.x.size() > ManyTile<Format>::kMostTokens) return panels<Format>(args);
  }
  many<Format>(args);
}

void linear(const LinearArgs& args) {
  if (args.x.empty()) return;
  switch (args.w->format) {
    case WeightFormat::kF32:
      return linear_as<F32Format>(args);
    case WeightFormat::kF16:
      return linear_as<F16Format>(args);
    case WeightFormat::kBF16:
      return linear_as<BF16Format>(args);
    case WeightFormat::kFp8:
      return linear_as<Fp8Format>(args);
    case WeightFormat::kFp8Block:
      return linear_as<Fp8BlockFormat>(args);
    case WeightFormat::kNvfp4:
      return linear_as<Nvfp4Format>(args);
    case WeightFormat::kInt8Group:
      if (args.w->group_size == Int8Format::kGroupCols) return linear_as<Int8Format>(args);
      return panels<AnyFormat>(args);
    case WeightFormat::kInt4Group:
      if (x_order(*args.w) == XOrder::kNibbles) return linear_as<Int4Format>(args);
      return panels<AnyFormat>(args);
  }
}

void arrange(XOrder order, const float* x, int64_t cols, float* out) {
  if (order == XOrder::kNibbles) return arrange_nibbles(x, cols, out);
  std::memcpy(out, x, static_cast<size_t>(cols) * sizeof(float));
  std::fill(out + cols, out + round_up(cols, kBlockCols), 0.0F);
}

}  // namespace

void set_linear(KernelTable& table) {
  table.linear = linear;
  table.arrange = arrange;
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace facet::cpu {

void set_linear_kernels(Isa isa, KernelTable& table) {
  switch (isa) {
#if HWY_TARGETS & HWY_AVX2
    case Isa::kAvx2:
      return N_AVX2::set_linear(table);
    case Isa::kAvx512:
      return N_AVX3::set_linear(table);
#endif
    default:
      return HWY_STATIC_DISPATCH(set_linear)(table);
  }
}

}  // namespace facet::cpu
#endif
