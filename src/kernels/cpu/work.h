#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/worker_pool.h"

namespace facet::cpu {

/// Multiply-adds of one piece of elementwise work: some microseconds, well above what it costs to
/// share it out.
inline constexpr int64_t kPieceCost = 65536;

/// Rows of one piece of `rows` weight rows in all, for products with `tokens` rows of x: a multiple
/// of the 16 that the kernels take at a time. Large, for memory gives its full rate to long
/// sequential reads only, and many rows of x pass the caches once a piece; but small enough that no
/// thread waits long for the last piece.
constexpr int64_t rows_per_piece(int64_t rows, int64_t cols, int64_t tokens, int32_t threads) {
  constexpr int64_t kProductCost = 524288;  // multiply-adds: 1 MB of BF16 at one token
  constexpr int64_t kPiecesPerThread = 8;
  constexpr int64_t kFewTokens = 4;  // above, what a piece costs is no longer reading its rows
  constexpr int64_t kManyTokensRows = 128;
  const int64_t cost = std::max<int64_t>(1, cols * std::clamp<int64_t>(tokens, 1, kFewTokens));
  const int64_t wanted = tokens > kFewTokens ? kManyTokensRows : kProductCost / cost;
  const int64_t balanced = rows / (threads * kPiecesPerThread);
  return std::max<int64_t>(1, std::min(wanted, balanced) / 16) * 16;
}

/// body(slot, item) for every item, on all threads, in roughly ascending order. No two calls at a
/// time have the same slot < pool.threads(): scratch goes by slot.
template <typename Body>
void for_items(WorkerPool& pool, int64_t count, const Body& body) {
  std::atomic<int64_t> next{0};
  const int64_t slots = std::min<int64_t>(count, pool.threads());
  pool.parallel_for(slots, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t item = next++; item < count; item = next++) body(slot, item);
    }
  });
}

/// At least `size` elements; never fewer than before.
template <typename T>
void grow(std::vector<T>& values, int64_t size) {
  if (static_cast<int64_t>(values.size()) < size) values.resize(static_cast<size_t>(size));
}

}  // namespace facet::cpu
