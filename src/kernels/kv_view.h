#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "tensor/dtype.h"

namespace facet {

/// How the cache of one layer is laid out: pages of [K heads, page_size positions, D], K and V
/// apart.
struct KvLayout {
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t page_size = 0;      ///< positions per page
  DType dtype = DType::kF32;  ///< kF32, kBF16 or kF8E4M3
  bool operator==(const KvLayout&) const = default;
};

/// Elements of K (or V) in one page of one layer.
constexpr int64_t page_elements(const KvLayout& layout) {
  return int64_t{layout.kv_heads} * layout.page_size * layout.head_dim;
}

/// The layers that share one KV shape and window.
struct KvGroupSpec {
  int32_t layers = 0;
  KvLayout layout;
  int32_t window = 0;  ///< positions a row sees, its own included; 0: all
};

/// A page that holds no positions any more: it has slid out of the window, or was never needed.
inline constexpr PageId kNoPage{-1};

/// The cache of one layer during one step. Page p of K starts at k + p * page_elements * element
/// size. Stored values are k / k_scale and v / v_scale; the scales are 1 except for FP8.
struct KvView {
  KvLayout layout;
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  float k_scale = 1.0F;
  float v_scale = 1.0F;
  /// [S]: for each sequence of the batch, the page of positions [i * page_size, (i + 1) *
  /// page_size). Owned by the cache; covers every position that a row of the step may see or
  /// writes.
  std::span<const std::span<const PageId>> page_tables;
};

}  // namespace facet
