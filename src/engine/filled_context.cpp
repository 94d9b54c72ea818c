#include "engine/filled_context.h"

#include <algorithm>
#include <fmt/core.h>
#include <vector>

#include "base/error.h"
#include "tensor/device_copy.h"

namespace facet {
namespace {

/// K or V of `rows` positions, enough for any group.
std::vector<float> random_values(const KvCache& cache, int32_t rows) {
  int64_t most = 0;
  for (const KvGroupSpec& group : cache.groups()) {
    most = std::max(most, int64_t{group.layout.kv_heads} * group.layout.head_dim);
  }
  std::vector<float> values(static_cast<size_t>(most * rows));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;  // quick: benchmarks fill millions
    value = (static_cast<float>(state >> 8) / 0x1p24F - 0.5F) * 3.4641F;  // variance 1
  }
  return values;
}

}  // namespace

void fill_context(
    KvCache& cache, CacheSlot slot, Backend& backend, int32_t positions, int32_t step_rows) {
  const std::vector<float> values = random_values(cache, step_rows);
  const std::vector<float> reversed(values.rbegin(), values.rend());
  const Shape flat = {std::ssize(values)};
  const DeviceCopy k({values.data(), DType::kF32, flat}, backend.allocator());
  const DeviceCopy v({reversed.data(), DType::kF32, flat}, backend.allocator());
  std::vector<int32_t> place(static_cast<size_t>(step_rows));
  const std::vector<int32_t> sequence_of_row(static_cast<size_t>(step_rows), 0);
  CacheViews views;
  for (int32_t done = 0; done < positions; done += step_rows) {
    const int32_t rows = std::min(step_rows, positions - done);
    if (!cache.reserve(slot, rows)) {
      throw Error(ErrorCode::kOutOfMemory,
                  fmt::format("the KV cache has no room for {} positions", positions));
    }
    const int32_t first = cache.length(slot);
    for (int32_t i = 0; i < rows; ++i) place[static_cast<size_t>(i)] = first + i;
    const SequenceRows all = {0, rows, first};
    const auto count = static_cast<size_t>(rows);
    const Batch batch = {
        std::span(place).first(count), std::span(sequence_of_row).first(count), {&all, 1}};
    cache.views({&slot, 1}, views);
    backend.begin_step({.batch = batch, .kv = views.layers, .watched = true});
    for (const KvView& view : views.layers) {
      const Shape shape = {rows, view.layout.kv_heads, view.layout.head_dim};
      const auto rows_of = [&](const DeviceCopy& copy) {
        const TensorView all = copy.view();
        return TensorView(all.data(), all.dtype(), shape, all.device());
      };
      backend.store_kv(view, rows_of(k), rows_of(v), batch);
    }
    backend.end_step({});
    cache.advance(slot, rows);
  }
}

}  // namespace facet
