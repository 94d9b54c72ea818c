#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/batch.h"
#include "kernels/kv_view.h"
#include "tests/ops/op_test.h"

namespace facet::test {

/// A sequence's part in a step. What it holds in the cache, and its q, depend on the seed and the
/// position alone, so that one position can be computed in steps of different make.
struct SequenceSpec {
  int32_t first_position = 0;
  int32_t rows = 1;
  uint32_t seed = 1;
};

struct StepSpec {
  KvLayout layout;
  int32_t query_heads = 1;
  int32_t window = 0;
  float k_scale = 1.0F;
  float v_scale = 1.0F;
  std::vector<SequenceSpec> sequences;
};

/// A paged cache of one layer with one step over it. Pages lie in mixed order; every byte that no
/// row of the step may see is 0xff, a NaN in each KV dtype, and pages of which no row may see
/// anything are kNoPage.
class PagedStep {
 public:
  explicit PagedStep(StepSpec spec);
  PagedStep(const PagedStep&) = delete;
  PagedStep& operator=(const PagedStep&) = delete;

  KvView kv();
  Batch batch() const { return {positions_, sequence_of_row_, sequences_}; }
  Tensor q() const;  // [T, Q, D]
  Tensor k() const;  // [T, K, D], of the step's rows
  Tensor v() const;

  /// Writes K and V of all positions that a row may see.
  void fill_cache();
  /// Writes K and V of the step's own rows: what store_kv does.
  void fill_step_rows();
  std::span<const std::byte> k_bytes() const { return k_; }
  std::span<const std::byte> v_bytes() const { return v_; }
  PageId& page(int32_t sequence, int32_t index);

  /// The attention of each row, from the values as the cache's dtype holds them. [T, Q, D]
  std::vector<Expected> attention() const;

 private:
  enum class Part : uint32_t { kQuery, kKey, kValue };

  int32_t first_visible(const SequenceSpec& sequence) const;
  float value(const SequenceSpec& sequence, Part part, int32_t position, int64_t i) const;
  /// What is left of a key's or value's component in the cache.
  double cached(const SequenceSpec& sequence, Part part, int32_t position, int64_t i) const;
  void fill(size_t sequence, int32_t begin, int32_t end);
  void write(std::vector<std::byte>& to, int64_t index, float value, float scale);
  Tensor rows_of(Part part, int32_t heads) const;

  StepSpec spec_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> sequence_of_row_;
  std::vector<SequenceRows> sequences_;
  std::vector<std::vector<PageId>> tables_;
  std::vector<std::span<const PageId>> table_views_;
  std::vector<std::byte> k_;
  std::vector<std::byte> v_;
};

}  // namespace facet::test
