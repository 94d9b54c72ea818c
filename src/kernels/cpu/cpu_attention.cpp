// How attention is shared out over threads, and the KV cache written. The arithmetic of a query is
// the same in every plan: parts at absolute positions, each on its own, joined in ascending order.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/work.h"
#include "quant/float_formats.h"

namespace facet::cpu {
namespace {

/// Items per thread below which attention over many positions is split by part.
constexpr int64_t kItemsPerThread = 4;

struct Visible {
  int64_t begin = 0;
  int64_t end = 0;
};

Visible visible_to(int32_t position, int32_t window) {
  const int64_t end = int64_t{position} + 1;
  return {window > 0 ? std::max<int64_t>(0, end - window) : 0, end};
}

void encode(const float* from, DType dtype, float scale, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = from[i] / scale;
    if (dtype == DType::kF32) {
      std::memcpy(to + i * 4, &value, sizeof(value));
    } else if (dtype == DType::kBF16) {
      const uint16_t bits = float_to_bf16(value);
      std::memcpy(to + i * 2, &bits, sizeof(bits));
    } else {
      to[i] = std::byte{float_to_e4m3(value)};
    }
  }
}

void check_kv(const KvView& kv, const TensorView& x, const Batch& batch) {
  const KvLayout& layout = kv.layout;
  CHECK(layout.page_size > 0 && layout.kv_heads > 0 && layout.head_dim > 0 &&
            (layout.dtype == DType::kF32 || layout.dtype == DType::kBF16 ||
             layout.dtype == DType::kF8E4M3),
        "cache of {} pages of {}, {} heads of {}", to_string(layout.dtype), layout.page_size,
        layout.kv_heads, layout.head_dim);
  CHECK(x.shape().rank() == 3 && x.rows() == batch.rows() && x.shape()[2] == layout.head_dim,
        "{} for {} rows, heads of {}", to_string(x.shape()), batch.rows(), layout.head_dim);
  CHECK(kv.page_tables.size() == batch.sequences.size(), "{} page tables, {} sequences",
        kv.page_tables.size(), batch.sequences.size());
}

}  // namespace

void CpuBackend::store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) {
  check_kv(kv, k, batch);
  CHECK(k.shape() == v.shape() && k.shape()[1] == kv.layout.kv_heads, "K {} V {}",
        to_string(k.shape()), to_string(v.shape()));
  const KvLayout& layout = kv.layout;
  const int64_t heads = layout.kv_heads;
  const int64_t width = layout.head_dim;
  const int64_t size = bits_of(layout.dtype) / 8;
  const float* keys = k.as<float>().data();
  const float* values = v.as<float>().data();
  for_range(batch.rows(), 4 * heads * width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto row = static_cast<size_t>(t);
      const int64_t position = batch.positions[row];
      const auto& pages = kv.page_tables[static_cast<size_t>(batch.sequence_of_row[row])];
      const int64_t page = to_index(pages[static_cast<size_t>(position / layout.page_size)]);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t slot = h * layout.page_size + position % layout.page_size;
        const int64_t offset = (page * page_elements(layout) + slot * width) * size;
        const int64_t from = (t * heads + h) * width;
        encode(keys + from, layout.dtype, kv.k_scale, width, kv.k + offset);
        encode(values + from, layout.dtype, kv.v_scale, width, kv.v + offset);
      }
    }
  });
}

void CpuBackend::plan_queries(const AttentionCall& call) {
  blocks_.clear();
  const int32_t kv_heads = call.kv->layout.kv_heads;
  const int32_t group = call.q_heads / kv_heads;
  const int32_t heads_at_once = std::min(group, kMaxQueries);
  const int32_t rows_at_once = std::max(1, kMaxQueries / group);
  for (size_t s = 0; s < call.batch->sequences.size(); ++s) {
    const SequenceRows& rows = call.batch->sequences[s];
    for (int32_t r = 0; r < rows.rows; r += rows_at_once) {
      QueryBlock block;
      block.sequence = static_cast<int32_t>(s);
      block.first_row = rows.first_row + r;
      block.rows = std::min(rows_at_once, rows.rows - r);
      const auto first = static_cast<size_t>(block.first_row);
      const auto last = static_cast<size_t>(block.first_row + block.rows - 1);
      block.first_part =
          visible_to(call.batch->positions[first], call.window).begin / kAttentionPart;
      block.end_part = call.batch->positions[last] / kAttentionPart + 1;
      for (block.kv_head = 0; block.kv_head < kv_heads; ++block.kv_head) {
        for (int32_t h = 0; h < group; h += heads_at_once) {
          block.first_head = block.kv_head * group + h;
          block.heads = std::min(heads_at_once, group - h);
          blocks_.push_back(block);
        }
      }
    }
  }
}

float* CpuBackend::row_of(const AttentionCall& call, const QueryBlock& block, size_t query) {
  const int64_t row = block.first_row + static_cast<int64_t>(query) / block.heads;
  const int64_t head = block.first_head + static_cast<int64_t>(query) % block.heads;
  return call.out + (row * call.q_heads + head) * call.kv->layout.head_dim;
}

void CpuBackend::attend_part(const AttentionCall& call,
                             const QueryBlock& block,
                             int64_t part,
                             int64_t slot,
                             std::span<AttendQuery> queries) {
  const int64_t width = call.kv->layout.head_dim;
  for (size_t n = 0; n < queries.size(); ++n) {
    const int64_t row = block.first_row + static_cast<int64_t>(n) / block.heads;
    const int64_t head = block.first_head + static_cast<int64_t>(n) % block.heads;
    const Visible seen = visible_to(call.batch->positions[static_cast<size_t>(row)], call.window);
    AttendQuery& query = queries[n];
    query.q = call.q + (row * call.q_heads + head) * width;
    query.begin = std::max(seen.begin, part * kAttentionPart);
    query.end = std::min(seen.end, (part + 1) * kAttentionPart);
  }
  float* scratch = attention_floats_.data() + slot * attention_stride_;
  kernels_.attend({queries, call.kv, call.kv->page_tables[static_cast<size_t>(block.sequence)],
                   block.kv_head, scratch});
}

void CpuBackend::merge(QueryState& state,
                       const AttendQuery& part,
                       float* out,
                       int64_t head_dim) const {
  if (part.begin >= part.end) return;
  if (!state.started) {
    std::memcpy(out, part.acc, static_cast<size_t>(head_dim) * sizeof(float));
    state = {true, part.max, part.sum};
    return;
  }
  const float max = std::max(state.max, part.max);
  const float a = std::exp(state.max - max);
  const float b = std::exp(part.max - max);
  kernels_.blend(out, a, part.acc, b, head_dim);
  state.max = max;
  state.sum = state.sum * a + part.sum * b;
}

void CpuBackend::attend_whole(const AttentionCall& call, const QueryBlock& block, int64_t slot) {
  const int64_t width = call.kv->layout.head_dim;
  std::array<AttendQuery, kMaxQueries> queries;
  std::array<QueryState, kMaxQueries> states;
  const std::span used(queries.data(), static_cast<size_t>(block.queries()));
  float* acc = attention_floats_.data() + slot * attention_stride_ +
               attend_scratch(call.kv->layout.head_dim);
  for (size_t n = 0; n < used.size(); ++n) used[n].acc = acc + static_cast<int64_t>(n) * width;
  for (int64_t part = block.first_part; part < block.end_part; ++part) {
    attend_part(call, block, part, slot, used);
    for (size_t n = 0; n < used.size(); ++n) {
      merge(states[n], used[n], row_of(call, block, n), width);
    }
  }
  for (size_t n = 0; n < used.size(); ++n) {
    kernels_.scale(row_of(call, block, n), 1.0F / states[n].sum, width);
  }
}

void CpuBackend::join_parts(const AttentionCall& call, const QueryBlock& block) {
  const int64_t width = call.kv->layout.head_dim;
  for (int64_t n = 0; n < block.queries(); ++n) {
    float* out = row_of(call, block, static_cast<size_t>(n));
    QueryState state;
    for (int64_t part = 0; part < block.parts(); ++part) {
      const int64_t index = block.first_partial + part * block.queries() + n;
      merge(state, partial_queries_[static_cast<size_t>(index)], out, width);
    }
    kernels_.scale(out, 1.0F / state.sum, width);
  }
}

void CpuBackend::attend_split(const AttentionCall& call) {
  const int64_t width = call.kv->layout.head_dim;
  int64_t partials = 0;
  partial_items_.clear();
  for (size_t b = 0; b < blocks_.size(); ++b) {
    QueryBlock& block = blocks_[b];
    block.first_partial = partials;
    partials += block.parts() * block.queries();
    for (int64_t part = block.first_part; part < block.end_part; ++part) {
      partial_items_.emplace_back(static_cast<int32_t>(b), part);
    }
  }
  grow(partial_queries_, partials);
  grow(partial_floats_, partials * width);
  for (int64_t i = 0; i < partials; ++i) {
    partial_queries_[static_cast<size_t>(i)].acc = partial_floats_.data() + i * width;
  }
  for_items(pool_, static_cast<int64_t>(partial_items_.size()), [&](int64_t slot, int64_t item) {
    const auto [index, part] = partial_items_[static_cast<size_t>(item)];
    const QueryBlock& block = blocks_[static_cast<size_t>(index)];
    const int64_t first = block.first_partial + (part - block.first_part) * block.queries();
    attend_part(call, block, part, slot,
                {partial_queries_.data() + first, static_cast<size_t>(block.queries())});
  });
  for_items(pool_, static_cast<int64_t>(blocks_.size()), [&](int64_t /*slot*/, int64_t b) {
    join_parts(call, blocks_[static_cast<size_t>(b)]);
  });
}

void CpuBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  check_kv(kv, q, batch);
  CHECK(out.shape() == q.shape() && q.shape()[1] % kv.layout.kv_heads == 0 && window >= 0,
        "{} from {}, {} KV heads, window {}", to_string(out.shape()), to_string(q.shape()),
        kv.layout.kv_heads, window);
  const AttentionCall call = {.out = out.as<float>().data(),
                              .q = q.as<float>().data(),
                              .kv = &kv,
                              .window = window,
                              .q_heads = static_cast<int32_t>(q.shape()[1]),
                              .batch = &batch};
  plan_queries(call);
  const int64_t width = kv.layout.head_dim;
  attention_stride_ = attend_scratch(kv.layout.head_dim) + kMaxQueries * width;
  grow(attention_floats_, attention_stride_ * pool_.threads());

  int64_t items = 0;
  int64_t parts = 0;
  for (const QueryBlock& block : blocks_) {
    ++items;
    parts += block.parts();
  }
  if (pool_.threads() > 1 && items < kItemsPerThread * pool_.threads() && parts > items) {
    return attend_split(call);
  }
  for_items(pool_, items, [&](int64_t slot, int64_t b) {
    attend_whole(call, blocks_[static_cast<size_t>(b)], slot);
  });
}

}  // namespace facet::cpu
