#include "tests/ops/paged_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "quant/float_formats.h"

namespace facet::test {
namespace {

uint32_t mix(uint32_t hash, uint32_t value) {
  hash = (hash ^ value) * 0x9e3779b1u;
  return hash ^ (hash >> 15);
}

}  // namespace

PagedStep::PagedStep(StepSpec spec) : spec_(std::move(spec)) {
  const int32_t page_size = spec_.layout.page_size;
  int32_t pages = 2;  // that nobody holds
  for (const SequenceSpec& s : spec_.sequences) {
    const auto index = static_cast<int32_t>(sequences_.size());
    sequences_.push_back({static_cast<int32_t>(positions_.size()), s.rows, s.first_position});
    for (int32_t i = 0; i < s.rows; ++i) {
      positions_.push_back(s.first_position + i);
      sequence_of_row_.push_back(index);
    }
    pages += (s.first_position + s.rows + page_size - 1) / page_size;
  }
  std::vector<int32_t> ids(static_cast<size_t>(pages));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937 random(static_cast<uint32_t>(pages));
  std::shuffle(ids.begin(), ids.end(), random);
  for (const SequenceSpec& s : spec_.sequences) {
    std::vector<PageId> table;
    for (int32_t begin = 0; begin < s.first_position + s.rows; begin += page_size) {
      const bool seen = begin + page_size > first_visible(s);
      table.push_back(seen ? PageId{ids.back()} : kNoPage);
      ids.pop_back();
    }
    if (s.seed % 2 == 1) table.push_back(kNoPage);
    tables_.push_back(std::move(table));
  }
  for (const std::vector<PageId>& table : tables_) table_views_.emplace_back(table);
  const auto bytes =
      static_cast<size_t>(pages * page_elements(spec_.layout) * bits_of(spec_.layout.dtype) / 8);
  k_.assign(bytes, std::byte{0xff});
  v_.assign(bytes, std::byte{0xff});
}

KvView PagedStep::kv() {
  return {spec_.layout, k_.data(), v_.data(), spec_.k_scale, spec_.v_scale, table_views_};
}

PageId& PagedStep::page(int32_t sequence, int32_t index) {
  return tables_[static_cast<size_t>(sequence)][static_cast<size_t>(index)];
}

int32_t PagedStep::first_visible(const SequenceSpec& sequence) const {
  return spec_.window == 0 ? 0 : std::max(0, sequence.first_position - spec_.window + 1);
}

float PagedStep::value(const SequenceSpec& sequence, Part part, int32_t position, int64_t i) const {
  uint32_t hash = mix(sequence.seed, static_cast<uint32_t>(part) + 17);
  hash = mix(hash, static_cast<uint32_t>(position));
  hash = mix(mix(hash, static_cast<uint32_t>(i)), 99);
  return static_cast<float>(hash >> 8) * 0x1p-23F - 1.0F;
}

double PagedStep::cached(const SequenceSpec& sequence,
                         Part part,
                         int32_t position,
                         int64_t i) const {
  const float exact = value(sequence, part, position, i);
  const float scale = part == Part::kKey ? spec_.k_scale : spec_.v_scale;
  switch (spec_.layout.dtype) {
    case DType::kBF16:
      return bf16_to_float(float_to_bf16(exact));
    case DType::kF8E4M3:
      return e4m3_table()[float_to_e4m3(exact / scale)] * scale;
    default:
      return exact;
  }
}

void PagedStep::write(std::vector<std::byte>& to, int64_t index, float value, float scale) {
  if (spec_.layout.dtype == DType::kF8E4M3) {
    to[static_cast<size_t>(index)] = std::byte{float_to_e4m3(value / scale)};
  } else if (spec_.layout.dtype == DType::kBF16) {
    const uint16_t bits = float_to_bf16(value);
    std::memcpy(to.data() + 2 * index, &bits, 2);
  } else {
    std::memcpy(to.data() + 4 * index, &value, 4);
  }
}

void PagedStep::fill(size_t sequence, int32_t begin, int32_t end) {
  const KvLayout& layout = spec_.layout;
  const SequenceSpec& s = spec_.sequences[sequence];
  for (int32_t position = begin; position < end; ++position) {
    const PageId page = tables_[sequence][static_cast<size_t>(position / layout.page_size)];
    for (int64_t i = 0; i < int64_t{layout.kv_heads} * layout.head_dim; ++i) {
      const int64_t head = i / layout.head_dim;
      const int64_t at = ((int64_t{to_index(page)} * layout.kv_heads + head) * layout.page_size +
                          position % layout.page_size) *
                             layout.head_dim +
                         i % layout.head_dim;
      write(k_, at, value(s, Part::kKey, position, i), spec_.k_scale);
      write(v_, at, value(s, Part::kValue, position, i), spec_.v_scale);
    }
  }
}

void PagedStep::fill_cache() {
  for (size_t i = 0; i < spec_.sequences.size(); ++i) {
    const SequenceSpec& s = spec_.sequences[i];
    fill(i, first_visible(s), s.first_position + s.rows);
  }
}

void PagedStep::fill_step_rows() {
  for (size_t i = 0; i < spec_.sequences.size(); ++i) {
    const SequenceSpec& s = spec_.sequences[i];
    fill(i, s.first_position, s.first_position + s.rows);
  }
}

Tensor PagedStep::rows_of(Part part, int32_t heads) const {
  const auto rows = static_cast<int64_t>(positions_.size());
  Tensor result({rows, heads, spec_.layout.head_dim});
  const int64_t width = result.row_width();
  for (int64_t t = 0; t < rows; ++t) {
    const auto row = static_cast<size_t>(t);
    const SequenceSpec& s = spec_.sequences[static_cast<size_t>(sequence_of_row_[row])];
    for (int64_t i = 0; i < width; ++i) result[t * width + i] = value(s, part, positions_[row], i);
  }
  return result;
}

Tensor PagedStep::q() const { return rows_of(Part::kQuery, spec_.query_heads); }
Tensor PagedStep::k() const { return rows_of(Part::kKey, spec_.layout.kv_heads); }
Tensor PagedStep::v() const { return rows_of(Part::kValue, spec_.layout.kv_heads); }

std::vector<Expected> PagedStep::attention() const {
  const int64_t d = spec_.layout.head_dim;
  const int64_t group = spec_.query_heads / spec_.layout.kv_heads;
  std::vector<Expected> result;
  for (size_t row = 0; row < positions_.size(); ++row) {
    const SequenceSpec& s = spec_.sequences[static_cast<size_t>(sequence_of_row_[row])];
    const int32_t position = positions_[row];
    for (int64_t head = 0; head < spec_.query_heads; ++head) {
      const int64_t kv_at = head / group * d;
      std::vector<Expected> out(static_cast<size_t>(d));
      double total = 0;
      for (int32_t j = 0; j <= position; ++j) {
        if (spec_.window != 0 && j <= position - spec_.window) continue;
        double score = 0;
        for (int64_t i = 0; i < d; ++i) {
          score += static_cast<double>(value(s, Part::kQuery, position, head * d + i)) *
                   cached(s, Part::kKey, j, kv_at + i);
        }
        total += std::exp(score);  // scores here stay far below exp's limit
        for (int64_t i = 0; i < d; ++i) {
          const double component = cached(s, Part::kValue, j, kv_at + i);
          Expected& sum = out[static_cast<size_t>(i)];
          sum.value += std::exp(score) * component;
          sum.magnitude = std::max(sum.magnitude, std::abs(component));
        }
      }
      for (Expected& sum : out) {
        sum.value /= total;
        result.push_back(sum);
      }
    }
  }
  return result;
}

}  // namespace facet::test
