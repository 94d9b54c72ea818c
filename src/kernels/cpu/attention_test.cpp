#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/test_matrix.h"
#include "tests/tolerance.h"

namespace facet::cpu {
namespace {

using test::random_floats;
using test::same_bits;
using test::view_of;

struct Shapes {
  int32_t q_heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 64;
  int32_t page_size = 16;
  DType dtype = DType::kF32;
  float k_scale = 1.0F;
  float v_scale = 1.0F;
};

float stored(float value, DType dtype, float scale) {
  value /= scale;
  if (dtype == DType::kBF16) value = bf16_to_float(float_to_bf16(value));
  if (dtype == DType::kF8E4M3) value = e4m3_table()[float_to_e4m3(value)];
  return value * scale;
}

/// A cache that holds `length` positions of each sequence on pages in random order, what lies
/// between them poisoned.
class Cache {
 public:
  Cache(const Shapes& shapes, const std::vector<int32_t>& lengths, uint32_t seed)
      : shapes_(shapes) {
    const KvLayout layout = {shapes.kv_heads, shapes.head_dim, shapes.page_size, shapes.dtype};
    int32_t pages = 1;
    for (const int32_t length : lengths) {
      tables_.emplace_back((length + shapes.page_size - 1) / shapes.page_size);
      pages += static_cast<int32_t>(tables_.back().size());
    }
    std::vector<int32_t> order(static_cast<size_t>(pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    size_t next = 0;
    for (auto& table : tables_) {
      for (PageId& page : table) page = PageId{order[next++]};
    }
    for (const auto& table : tables_) spans_.emplace_back(table);
    const auto bytes = static_cast<size_t>(pages * page_elements(layout)) *
                       static_cast<size_t>(bits_of(shapes.dtype) / 8);
    k_.assign(bytes, std::byte{0xff});  // a NaN in every format
    v_.assign(bytes, std::byte{0xff});
    view_ = {layout, k_.data(), v_.data(), shapes.k_scale, shapes.v_scale, spans_};

    const auto backend = make_cpu_backend({.threads = 1});
    for (size_t s = 0; s < lengths.size(); ++s) {
      const int64_t count = int64_t{lengths[s]} * shapes.kv_heads * shapes.head_dim;
      keys_.push_back(random_floats(count, seed + static_cast<uint32_t>(s) + 1));
      values_.push_back(random_floats(count, seed + static_cast<uint32_t>(s) + 1000));
      KvView one = view_;
      one.page_tables = std::span(spans_).subspan(s, 1);
      std::vector<int32_t> positions(static_cast<size_t>(lengths[s]));
      std::iota(positions.begin(), positions.end(), 0);
      const std::vector<int32_t> zeros(positions.size(), 0);
      const std::vector<SequenceRows> rows = {{0, lengths[s], 0}};
      const Shape shape = {lengths[s], shapes.kv_heads, shapes.head_dim};
      backend->store_kv(one, view_of(keys_[s], shape), view_of(values_[s], shape),
                        {positions, zeros, rows});
    }
  }

  const KvView& view() const { return view_; }
  /// A view whose pages before those of `position` of each sequence are gone.
  KvView without_pages_before(const std::vector<int32_t>& first) {
    for (size_t s = 0; s < first.size(); ++s) {
      for (int32_t p = 0; p < first[s] / shapes_.page_size; ++p) {
        tables_[s][static_cast<size_t>(p)] = kNoPage;
      }
    }
    return view_;
  }

  double key(size_t sequence, int64_t position, int64_t head, int64_t d) const {
    return at(keys_[sequence], position, head, d, shapes_.k_scale);
  }
  double value(size_t sequence, int64_t position, int64_t head, int64_t d) const {
    return at(values_[sequence], position, head, d, shapes_.v_scale);
  }

 private:
  double at(const std::vector<float>& values,
            int64_t position,
            int64_t head,
            int64_t d,
            float scale) const {
    const int64_t index = (position * shapes_.kv_heads + head) * shapes_.head_dim + d;
    return static_cast<double>(stored(values[static_cast<size_t>(index)], shapes_.dtype, scale));
  }

  Shapes shapes_;
  std::vector<std::vector<PageId>> tables_;
  std::vector<std::span<const PageId>> spans_;
  std::vector<std::byte> k_;
  std::vector<std::byte> v_;
  std::vector<std::vector<float>> keys_;
  std::vector<std::vector<float>> values_;
  KvView view_;
};

/// The last `rows` positions of each sequence as one step.
struct TestStep {
  TestStep(const std::vector<int32_t>& lengths, const std::vector<int32_t>& rows) {
    for (size_t s = 0; s < lengths.size(); ++s) {
      const int32_t first = lengths[s] - rows[s];
      sequences.push_back({static_cast<int32_t>(positions.size()), rows[s], first});
      for (int32_t r = 0; r < rows[s]; ++r) {
        positions.push_back(first + r);
        sequence_of_row.push_back(static_cast<int32_t>(s));
      }
    }
  }
  Batch batch() const { return {positions, sequence_of_row, sequences}; }

  std::vector<int32_t> positions;
  std::vector<int32_t> sequence_of_row;
  std::vector<SequenceRows> sequences;
};

std::vector<float> attend(const CpuOptions& options,
                          const Shapes& shapes,
                          const KvView& kv,
                          const std::vector<float>& q,
                          int32_t window,
                          const Batch& batch) {
  std::vector<float> out(q.size(), std::numeric_limits<float>::quiet_NaN());
  const Shape shape = {batch.rows(), shapes.q_heads, shapes.head_dim};
  make_cpu_backend(options)->attention(view_of(out, shape), view_of(q, shape), kv, window, batch);
  return out;
}

void expect_plain_sums(const Shapes& shapes,
                       const Cache& cache,
                       const std::vector<float>& q,
                       int32_t window,
                       const Batch& batch,
                       const std::vector<float>& out) {
  const int64_t width = shapes.head_dim;
  for (int64_t t = 0; t < batch.rows(); ++t) {
    const auto sequence = static_cast<size_t>(batch.sequence_of_row[static_cast<size_t>(t)]);
    const int64_t end = int64_t{batch.positions[static_cast<size_t>(t)]} + 1;
    const int64_t begin = window > 0 ? std::max<int64_t>(0, end - window) : 0;
    for (int64_t h = 0; h < shapes.q_heads; ++h) {
      const int64_t kv_head = h / (shapes.q_heads / shapes.kv_heads);
      const int64_t row = (t * shapes.q_heads + h) * width;
      std::vector<double> scores;
      for (int64_t j = begin; j < end; ++j) {
        double score = 0.0;
        for (int64_t d = 0; d < width; ++d) {
          score += static_cast<double>(q[static_cast<size_t>(row + d)]) *
                   cache.key(sequence, j, kv_head, d);
        }
        scores.push_back(score);
      }
      const double max = *std::max_element(scores.begin(), scores.end());
      double sum = 0.0;
      for (double& score : scores) sum += score = std::exp(score - max);
      for (int64_t d = 0; d < width; ++d) {
        double expected = 0.0;
        for (int64_t j = begin; j < end; ++j) {
          expected +=
              scores[static_cast<size_t>(j - begin)] / sum * cache.value(sequence, j, kv_head, d);
        }
        ASSERT_NEAR(out[static_cast<size_t>(row + d)], expected, 5 * facet::test::kAttention)
            << "row " << t << " head " << h << " of " << shapes.q_heads << " component " << d;
      }
    }
  }
}

class CpuAttention : public testing::TestWithParam<Isa> {};

TEST_P(CpuAttention, EqualsPlainSums) {
  const std::vector<Shapes> cases = {
      {},
      {.dtype = DType::kBF16},
      {.dtype = DType::kF8E4M3, .k_scale = 0.02F, .v_scale = 0.5F},
      {.q_heads = 2, .kv_heads = 2, .head_dim = 6, .page_size = 5},  // less than a vector
      {.q_heads = 3, .kv_heads = 1, .head_dim = 30, .page_size = 7, .dtype = DType::kBF16},
      {.q_heads = 20, .kv_heads = 1, .head_dim = 22, .page_size = 1, .dtype = DType::kF8E4M3},
      {.q_heads = 16, .kv_heads = 2, .head_dim = 136, .page_size = 300},
  };
  for (const Shapes& shapes : cases) {
    const std::vector<int32_t> lengths = {1, 40, 700, 257, 513};
    const Cache cache(shapes, lengths, 3);
    const TestStep step(lengths, {1, 13, 3, 1, 2});
    const Batch batch = step.batch();
    const std::vector<float> q = random_floats(batch.rows() * shapes.q_heads * shapes.head_dim, 99);
    for (const int32_t window : {0, 1, 24, 300, 100000}) {
      for (const int32_t threads : {1, 8}) {
        const std::vector<float> out =
            attend({GetParam(), threads}, shapes, cache.view(), q, window, batch);
        expect_plain_sums(shapes, cache, q, window, batch, out);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(CpuAttention, RowsDoNotDependOnEachOther) {
  for (const int32_t window : {0, 300}) {
    const Shapes shapes = {
        .q_heads = 6, .kv_heads = 2, .head_dim = 40, .page_size = 9, .dtype = DType::kBF16};
    const std::vector<int32_t> lengths = {900, 300};
    Cache cache(shapes, lengths, 5);
    const TestStep whole(lengths, {900, 300});
    const int64_t width = int64_t{shapes.q_heads} * shapes.head_dim;
    const std::vector<float> q = random_floats(1200 * width, 6);
    const std::vector<float> all =
        attend({GetParam(), 1}, shapes, cache.view(), q, window, whole.batch());
    for (const int32_t rows : {1, 2, 3, 5, 8, 33}) {
      for (const int32_t threads : {1, 2, 16}) {
        // The last rows of the first sequence alone: one decode is split by part, many rows not.
        const TestStep step({900}, {rows});
        const auto first = static_cast<int64_t>(900 - rows) * width;
        const std::vector<float> some(q.begin() + first, q.begin() + 900 * width);
        KvView kv = cache.view();
        kv.page_tables = kv.page_tables.first(1);
        EXPECT_TRUE(same_bits(
            attend({GetParam(), threads}, shapes, kv, some, window, step.batch()),
            std::span(all).subspan(static_cast<size_t>(first), static_cast<size_t>(rows * width))))
            << rows << " rows, " << threads << " threads, window " << window;
      }
    }
  }
}

TEST_P(CpuAttention, TouchesNoPageOutsideTheWindow) {
  const Shapes shapes = {.head_dim = 16, .page_size = 8};
  const std::vector<int32_t> lengths = {600};
  Cache cache(shapes, lengths, 8);
  const TestStep step(lengths, {4});
  const std::vector<float> q = random_floats(4 * 4 * 16, 9);
  const int32_t window = 20;
  const KvView kv = cache.without_pages_before({596 - window + 1});
  for (const int32_t threads : {1, 4}) {
    expect_plain_sums(shapes, cache, q, window, step.batch(),
                      attend({GetParam(), threads}, shapes, kv, q, window, step.batch()));
  }
}

TEST_P(CpuAttention, LargeScoresDoNotOverflow) {
  const Shapes shapes = {.head_dim = 64};
  const std::vector<int32_t> lengths = {520};
  const Cache cache(shapes, lengths, 21);
  const TestStep step(lengths, {2});
  std::vector<float> q = random_floats(2 * 4 * 64, 22);
  for (float& value : q) value *= 1000.0F;
  const std::vector<float> out = attend({GetParam(), 2}, shapes, cache.view(), q, 0, step.batch());
  for (const float value : out) {
    ASSERT_TRUE(std::isfinite(value));
    ASSERT_LT(std::fabs(value), 10.0F);
  }
}

TEST_P(CpuAttention, StoredValuesAreTheNearest) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const Shapes shapes = {.q_heads = 1,
                           .kv_heads = 1,
                           .head_dim = 10,
                           .page_size = 4,
                           .dtype = dtype,
                           .k_scale = dtype == DType::kF8E4M3 ? 0.25F : 1.0F,
                           .v_scale = dtype == DType::kF8E4M3 ? 3.0F : 1.0F};
    const Cache cache(shapes, {1}, 31);
    const TestStep step({1}, {1});
    // One visible position: the output is its value.
    const std::vector<float> out =
        attend({GetParam(), 1}, shapes, cache.view(), random_floats(10, 1), 0, step.batch());
    for (int64_t d = 0; d < 10; ++d) {
      EXPECT_EQ(static_cast<double>(out[static_cast<size_t>(d)]), cache.value(0, 0, 0, d));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All,
                         CpuAttention,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& info) { return test::isa_name(info.param); });

}  // namespace
}  // namespace facet::cpu
