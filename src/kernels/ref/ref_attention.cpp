#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/ref/operand.h"
#include "kernels/ref/ref_backend.h"
#include "quant/float_formats.h"

namespace facet::ref {
namespace {

/// Where the D values of a head at a position start in K or V of a layer, in elements.
int64_t place(const KvLayout& layout,
              std::span<const PageId> table,
              int64_t head,
              int32_t position) {
  const auto index = static_cast<size_t>(position / layout.page_size);
  CHECK(position >= 0 && index < table.size() && to_index(table[index]) >= 0,
        "position {} has no page", position);
  const int64_t page = to_index(table[index]);
  return page * page_elements(layout) +
         (head * layout.page_size + position % layout.page_size) * layout.head_dim;
}

template <typename T>
void put(std::byte* data, int64_t index, T value) {
  std::memcpy(data + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

void store_value(std::byte* data, DType dtype, int64_t index, float value) {
  switch (dtype) {
    case DType::kF32:
      return put(data, index, value);
    case DType::kBF16:
      return put(data, index, float_to_bf16(value));
    case DType::kF8E4M3:
      return put(data, index, float_to_e4m3(value));
    default:
      CHECK(false, "a KV cache of {}", to_string(dtype));
  }
}

/// out[i] = the cached value times its scale.
void read_values(
    const std::byte* data, DType dtype, int64_t first, float scale, std::vector<float>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = read_float(data, dtype, first + static_cast<int64_t>(i)) * scale;
  }
}

void check_batch(const KvView& kv, const Batch& batch) {
  const KvLayout& layout = kv.layout;
  CHECK(layout.kv_heads > 0 && layout.head_dim > 0 && layout.page_size > 0, "pages of [{}, {}, {}]",
        layout.kv_heads, layout.page_size, layout.head_dim);
  CHECK(batch.sequence_of_row.size() == batch.positions.size(), "{} rows, {} sequence numbers",
        batch.positions.size(), batch.sequence_of_row.size());
  CHECK(kv.page_tables.size() == batch.sequences.size(), "{} page tables for {} sequences",
        kv.page_tables.size(), batch.sequences.size());
}

std::span<const PageId> table_of_row(const KvView& kv, const Batch& batch, size_t row) {
  const auto sequence = static_cast<size_t>(batch.sequence_of_row[row]);
  CHECK(sequence < kv.page_tables.size(), "row {} is of sequence {} of {}", row, sequence,
        kv.page_tables.size());
  return kv.page_tables[sequence];
}

/// One query head of one row: out[d] = sum over j of softmax(q · k_j) * v_j[d], first <= j <= last.
void attend_head(float* out,
                 const float* q,
                 const KvView& kv,
                 std::span<const PageId> table,
                 int64_t kv_head,
                 int32_t first,
                 int32_t last) {
  const KvLayout& layout = kv.layout;
  std::vector<float> row(static_cast<size_t>(layout.head_dim));
  std::vector<double> weights;
  for (int32_t j = first; j <= last; ++j) {
    read_values(kv.k, layout.dtype, place(layout, table, kv_head, j), kv.k_scale, row);
    weights.push_back(dot(q, row.data(), layout.head_dim));
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) {
    weight = std::exp(weight - largest);
    total += weight;
  }
  std::vector<double> sums(row.size(), 0.0);
  for (int32_t j = first; j <= last; ++j) {
    read_values(kv.v, layout.dtype, place(layout, table, kv_head, j), kv.v_scale, row);
    const double probability = weights[static_cast<size_t>(j - first)] / total;
    for (size_t d = 0; d < row.size(); ++d) sums[d] += probability * static_cast<double>(row[d]);
  }
  for (size_t d = 0; d < row.size(); ++d) out[d] = static_cast<float>(sums[d]);
}

}  // namespace

void RefBackend::store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) {
  check_batch(kv, batch);
  const KvLayout& layout = kv.layout;
  const Shape shape = {batch.rows(), layout.kv_heads, layout.head_dim};
  const float* k_from = values(k, shape, "k");
  const float* v_from = values(v, shape, "v");
  for (size_t t = 0; t < batch.positions.size(); ++t) {
    const std::span<const PageId> table = table_of_row(kv, batch, t);
    for (int64_t head = 0; head < layout.kv_heads; ++head) {
      const int64_t to = place(layout, table, head, batch.positions[t]);
      for (int64_t d = 0; d < layout.head_dim; ++d) {
        store_value(kv.k, layout.dtype, to + d, *k_from++ / kv.k_scale);
        store_value(kv.v, layout.dtype, to + d, *v_from++ / kv.v_scale);
      }
    }
  }
}

void RefBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  check_batch(kv, batch);
  CHECK(q.shape().rank() == 3 && window >= 0, "q {}, window {}", to_string(q.shape()), window);
  const KvLayout& layout = kv.layout;
  const int64_t heads = q.shape()[1];
  CHECK(heads % layout.kv_heads == 0, "{} query heads on {} KV heads", heads, layout.kv_heads);
  const int64_t group = heads / layout.kv_heads;
  const Shape shape = {batch.rows(), heads, layout.head_dim};
  const float* from = values(q, shape, "q");
  float* to = values(out, shape, "out");
  for (size_t t = 0; t < batch.positions.size(); ++t) {
    const std::span<const PageId> table = table_of_row(kv, batch, t);
    const int32_t last = batch.positions[t];
    const int32_t first = window > 0 ? std::max(0, last - window + 1) : 0;
    for (int64_t head = 0; head < heads; ++head) {
      attend_head(to, from, kv, table, head / group, first, last);
      from += layout.head_dim;
      to += layout.head_dim;
    }
  }
}

}  // namespace facet::ref
