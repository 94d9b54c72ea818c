#include "kernels/cuda/few_tokens.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/cuda/attention.h"

namespace facet::cuda {
namespace {

static_assert(kTokenChoices == kMostStreamExperts && kStepColumns == kStep &&
              kStepChunks == kChunks && chunks_of(kChunkedSteps) == kChunks &&
              chunks_of(kChunkedSteps - 1) == 1);

bool kind_fits(const FewTokensKind& kind, int32_t tokens) {
  return step_kind_fits({kind.head_dim, kind.q_heads, kind.kv_heads, kind.window, kind.angles},
                        tokens) &&
         kind.page_size % 16 == 0 && kind.blocks > 0 &&
         kind.kv_heads * kind.blocks <= multiprocessors();
}

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, which programs that also run without a driver do not link.
EncodeTiled encode_tiled() {
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    constexpr unsigned kSince = 12000;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince,
                                           cudaEnableDefault, &result),
          "cuTensorMapEncodeTiled");
    CHECK(result == cudaDriverEntryPointSuccess, "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<EncodeTiled>(found);
  }();
  return function;
}

/// BF16 values in boxes, whose first dimension is 128 bytes wide; all but its pitch are given.
template <size_t kDims>
CUtensorMap map_of_boxes(const std::byte* data,
                         const std::array<cuuint64_t, kDims>& extents,
                         const std::array<cuuint64_t, kDims - 1>& pitches,
                         const std::array<cuuint32_t, kDims>& box) {
  CUtensorMap map;
  std::array<cuuint32_t, kDims> apart;
  apart.fill(1);
  const CUresult result =
      encode_tiled()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDims, const_cast<std::byte*>(data),
                     extents.data(), pitches.data(), box.data(), apart.data(),
                     CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(result == CUDA_SUCCESS, "a tensor map of [{}, {}]: error {}", extents[1], extents[0],
        static_cast<int>(result));
  return map;
}

}  // namespace

CUtensorMap map_of_rows(const std::byte* data, int64_t rows, int64_t cols, int steps) {
  const auto pitch = static_cast<cuuint64_t>(cols) * sizeof(uint16_t);
  return map_of_boxes<3>(
      data, {kStep, static_cast<cuuint64_t>(rows), static_cast<cuuint64_t>(cols / kStep)},
      {pitch, kStep * sizeof(uint16_t)}, {kStep, 8, static_cast<cuuint32_t>(steps)});
}

CUtensorMap map_of_cache(const std::byte* data, int64_t head_dim, int rows) {
  constexpr cuuint64_t kMany = 1U << 30U;  // positions: how many there are is not looked at
  constexpr cuuint32_t kComponents = 64;
  const auto pitch = static_cast<cuuint64_t>(head_dim) * sizeof(uint16_t);
  return map_of_boxes<2>(data, {static_cast<cuuint64_t>(head_dim), kMany}, {pitch},
                         {kComponents, static_cast<cuuint32_t>(rows)});
}

int32_t few_token_parts(int32_t tokens) {
  constexpr int32_t kOfOne = 300;  // some two of a CTA
  return kOfOne / tokens;
}

void deal_positions(FewTokensKind& kind, int32_t longest, int32_t few_parts) {
  const auto parts = static_cast<int32_t>(ceil_div(longest, kPart));
  if (kind.window > 0) {
    kind.blocks = static_cast<int32_t>(ceil_div(kind.window, kPart));
    kind.pieces = kind.blocks + 1;
  } else {
    kind.blocks = multiprocessors() / kind.kv_heads;
    kind.pieces = std::max(std::min(parts, few_parts), parts / kSpanParts + 1);
  }
}

int64_t few_tokens_partials(const FewTokensKind& kind) {
  return int64_t{kind.q_heads} * kind.pieces * (kind.head_dim + 2);
}

bool few_tokens_fit(const FewTokensArgs& args) {
  if (!device_has_wgmma() || most_shared_bytes() < kTokenSharedBytes) return false;
  // Each CTA has some of o, and of the experts' down product: what it tells there says that it has
  // read all before.
  bool fits = args.tokens >= 1 && args.tokens <= kMostTokens &&
              step_widths_fit(
                  {args.hidden, args.dense_width, args.expert_width, args.experts, args.top_k}) &&
              multiprocessors() <= kTokenHidden / 16 && multiprocessors() >= kTokenHidden / 32 &&
              args.experts <= multiprocessors();
  for (const FewTokensKind& kind : args.kinds) {
    if (kind.head_dim == 0) continue;
    const int64_t parts = ceil_div(args.longest, kPart);
    fits = fits && kind_fits(kind, args.tokens) &&
           (kind.window > 0 ||
            (ceil_div(parts, int64_t{kSpanParts} * kind.blocks) + 1) * kSpanParts * 4 <=
                token_kv_rows(args.tokens));
  }
  return fits;
}

void few_tokens(cudaStream_t stream, const FewTokensArgs& args) {
  CHECK(few_tokens_fit(args), "{} layers of {} tokens", args.count, args.tokens);
  if (args.tokens == 1) return launch_few_tokens<1>(stream, args);
  if (args.tokens == 2) return launch_few_tokens<2>(stream, args);
  if (args.tokens <= 4) return launch_few_tokens<4>(stream, args);
  launch_few_tokens<8>(stream, args);
}

}  // namespace facet::cuda
