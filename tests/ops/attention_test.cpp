// Attention over the paged cache: who sees whom, in which dtype, in whose company.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <tuple>

#include "quant/float_formats.h"
#include "tests/ops/op_test.h"
#include "tests/ops/paged_step.h"

namespace facet::test {
namespace {

class AttentionTest : public OpTest {
 protected:
  Tensor run(PagedStep& step, int32_t window) {
    const Tensor q = step.q();
    Tensor out(q.shape());
    be().attention(out.view(), q.view(), step.kv(), window, step.batch());
    return out;
  }
  void check(const StepSpec& spec) {
    const KvLayout& l = spec.layout;
    SCOPED_TRACE(fmt::format("Q {} K {} D {} page {} {} window {}", spec.query_heads, l.kv_heads,
                             l.head_dim, l.page_size, to_string(l.dtype), spec.window));
    PagedStep step(spec);
    step.fill_cache();
    expect_close(run(step, spec.window), step.attention(), kAttention);
  }
};

/// A cache of one head and one sequence with keys and values of the test's own.
struct OneHead {
  OneHead(std::vector<float> keys, std::vector<float> values, int32_t positions)
      : k(std::move(keys)), v(std::move(values)) {
    layout = {1, static_cast<int32_t>(k.size()) / positions, positions, DType::kF32};
  }
  KvView kv() {
    return {layout,
            reinterpret_cast<std::byte*>(k.data()),
            reinterpret_cast<std::byte*>(v.data()),
            1.0F,
            1.0F,
            tables};
  }
  std::vector<float> k;
  std::vector<float> v;
  KvLayout layout;
  std::vector<PageId> table = {PageId{0}};
  std::vector<std::span<const PageId>> tables = {table};
};

Batch one_row(const int32_t& position, const SequenceRows& sequence) {
  static constexpr int32_t kFirst = 0;
  return {{&position, 1}, {&kFirst, 1}, {&sequence, 1}};
}

// Scores 4 and 0: with a scale of D^(-1/2) they would be 2 and 0.
TEST_P(AttentionTest, HandComputedWithoutScale) {
  OneHead cache({1, 1, 1, 1, 0, 0, 0, 0}, {1, 2, 3, 4, 0, 0, 0, -4}, 2);
  const Tensor q({1, 1, 4}, {1, 1, 1, 1});
  Tensor out({1, 1, 4});
  const int32_t position = 1;
  be().attention(out.view(), q.view(), cache.kv(), 0, one_row(position, {0, 1, 1}));
  const double p = 1 / (1 + std::exp(-4.0));
  EXPECT_NEAR(out[0], p, 1e-6);
  EXPECT_NEAR(out[1], 2 * p, 1e-6);
  EXPECT_NEAR(out[3], 4 * p - 4 * (1 - p), 1e-5);
}

// The largest score is taken out before exp: neither overflow nor an empty sum, and padding (a
// score of 0) does not win over scores that are all far below.
TEST_P(AttentionTest, ScoresFarFromZero) {
  for (const float size : {1000.0F, -1000.0F}) {
    OneHead cache({size, size, size - 1}, {1, 5, 3}, 3);
    const Tensor q({1, 1, 1}, {1});
    Tensor out({1, 1, 1});
    const int32_t position = 2;
    be().attention(out.view(), q.view(), cache.kv(), 0, one_row(position, {0, 1, 2}));
    const double e = std::exp(-1.0);
    EXPECT_NEAR(out[0], (6 + 3 * e) / (2 + e), 1e-5) << size;
  }
}

// With q = 0 every visible position weighs the same, so the mean of their numbers says which they
// were: off by one at either end shows.
TEST_P(AttentionTest, WindowHoldsExactlyItsPositions) {
  constexpr int32_t kPositions = 40;
  std::vector<float> keys;
  std::vector<float> numbers;
  for (int32_t j = 0; j < kPositions; ++j) {
    keys.push_back(static_cast<float>(j % 5) - 2.0F);
    numbers.push_back(static_cast<float>(j * j));
  }
  OneHead cache(keys, numbers, kPositions);
  const Tensor q({1, 1, 1}, {0});
  for (const int32_t window : {0, 1, 2, 16, 39, 40, 41}) {
    for (int32_t position = 0; position < kPositions; ++position) {
      const int32_t first = window == 0 ? 0 : std::max(0, position - window + 1);
      double mean = 0;
      for (int32_t j = first; j <= position; ++j) mean += j * j;
      mean /= position - first + 1;
      Tensor out({1, 1, 1});
      be().attention(out.view(), q.view(), cache.kv(), window, one_row(position, {0, 1, position}));
      ASSERT_NEAR(out[0], mean, 1e-6 * mean) << "window " << window << " position " << position;
    }
  }
}

// Prompts, chunks that continue one, and decodes, around the window's edge, in one step.
std::vector<SequenceSpec> mixed_sequences() {
  return {{0, 1, 1},  {0, 7, 2},   {14, 1, 3}, {15, 1, 4},  {16, 1, 5},
          {9, 13, 6}, {16, 33, 7}, {63, 2, 8}, {100, 1, 9}, {128, 5, 10}};
}

TEST_P(AttentionTest, WindowsAcrossPagesOfEverySize) {
  for (const int32_t page_size : {4, 16, 64}) {
    for (const int32_t window : {0, 1, 16, 17}) {
      check({{2, 16, page_size, DType::kF32}, 4, window, 1, 1, mixed_sequences()});
    }
  }
}

TEST_P(AttentionTest, GroupsOfQueryHeads) {
  for (const int32_t group : {1, 2, 8}) {
    for (const int32_t kv_heads : {1, 3}) {
      check({{kv_heads, 32, 16, DType::kF32}, group * kv_heads, 16, 1, 1, mixed_sequences()});
    }
  }
}

TEST_P(AttentionTest, HeadSizes) {
  for (const int32_t head_dim : {8, 20, 112, 256, 512}) {
    check({{1, head_dim, 16, DType::kF32}, 2, 0, 1, 1, {{0, 3, 1}, {37, 2, 2}, {70, 1, 3}}});
  }
}

TEST_P(AttentionTest, Bf16Cache) {
  for (const int32_t window : {0, 16}) {
    check({{2, 64, 16, DType::kBF16}, 4, window, 1, 1, mixed_sequences()});
    check({{2, 20, 4, DType::kBF16}, 2, window, 1, 1, mixed_sequences()});
  }
}

// The model's own head sizes, which some backends have kernels of their own for.
TEST_P(AttentionTest, LargeHeadsInANarrowCache) {
  for (const int32_t group : {1, 2, 8}) {
    for (const int32_t window : {0, 16, 100}) {
      check({{2, 256, 16, DType::kBF16}, 2 * group, window, 1, 1, mixed_sequences()});
    }
    check({{1, 512, 64, DType::kBF16}, group, 0, 1, 1, mixed_sequences()});
    check({{2, 256, 16, DType::kF8E4M3}, 2 * group, 100, 0.013F, 0.7F, mixed_sequences()});
    check({{1, 512, 64, DType::kF8E4M3}, group, 0, 0.3F, 0.011F, mixed_sequences()});
  }
  check({{1, 256, 64, DType::kF8E4M3}, 2, 1024, 1, 1, {{1500, 3, 1}, {1023, 2, 2}, {2047, 1, 4}}});
  check({{2, 256, 64, DType::kBF16}, 6, 0, 1, 1, mixed_sequences()});  // groups of three
  check({{1, 256, 64, DType::kBF16}, 2, 1024, 1, 1, {{1500, 3, 1}, {1023, 2, 2}, {2047, 1, 4}}});
  check({{1, 512, 64, DType::kBF16}, 8, 0, 1, 1, {{1500, 3, 1}, {1023, 1, 2}}});
}

// What a device cuts the longest sequence into may be more than the others have.
TEST_P(AttentionTest, DecodesOfShortSequencesBesideALongOne) {
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3}) {
    const std::vector<SequenceSpec> sequences = {{6, 1, 1}, {1090, 1, 2}, {64, 1, 3}, {0, 1, 4}};
    check({{2, 512, 64, dtype}, 16, 0, 1, 1, sequences});
    check({{2, 256, 64, dtype}, 4, 1024, 1, 1, sequences});
  }
  check({{1, 512, 64, DType::kBF16}, 8, 0, 1, 1, {{40, 1, 1}, {5000, 1, 2}}});
}

// Prompts long enough that a device may take another way through them.
TEST_P(AttentionTest, LongPromptsGiveTheSameBitsInAnyChunks) {
  struct Case {
    KvLayout layout;
    int32_t query_heads;
    int32_t window;
    int32_t rows;
  };
  for (const Case& c : {Case{{8, 256, 64, DType::kBF16}, 16, 300, 520},
                        Case{{2, 512, 64, DType::kBF16}, 16, 0, 262},
                        Case{{8, 256, 64, DType::kF8E4M3}, 16, 300, 520},
                        Case{{2, 512, 64, DType::kF8E4M3}, 16, 0, 262}}) {
    const auto step = [&](int32_t first, int32_t rows) {
      PagedStep part({c.layout, c.query_heads, c.window, 1, 1, {{70 + first, rows, 2}}});
      part.fill_cache();
      return run(part, c.window);
    };
    const Tensor all = step(0, c.rows);
    for (const auto& [first, rows] :
         {std::pair{0, 1}, {1, 5}, {63, 2}, {200, 60}, {c.rows - 1, 1}}) {
      expect_same_bits(step(first, rows), all.rows(first, rows), fmt::format("row {}", first));
      if (HasFatalFailure()) return;
    }
  }
}

// One sequence's pieces may be dealt out otherwise than those of many.
TEST_P(AttentionTest, ManySequencesGetTheSameBitsAsEachAlone) {
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3}) {
    for (const auto& [layout, heads, window] :
         {std::tuple{KvLayout{4, 256, 64, dtype}, 8, 300}, {KvLayout{2, 512, 64, dtype}, 16, 0}}) {
      std::vector<SequenceSpec> sequences;
      for (uint32_t i = 0; i < 24; ++i)
        sequences.push_back({static_cast<int32_t>(i * 37 % 19 * 41), 1, i + 1});
      sequences.push_back({1100, 1, 99});
      PagedStep together({layout, heads, window, 1, 1, sequences});
      together.fill_cache();
      const Tensor all = run(together, window);
      for (const int64_t row : {0, 5, 23, 24}) {
        PagedStep alone({layout, heads, window, 1, 1, {sequences[static_cast<size_t>(row)]}});
        alone.fill_cache();
        expect_same_bits(run(alone, window), all.rows(row, 1), fmt::format("row {}", row));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(AttentionTest, Fp8CacheWithScales) {
  for (const int32_t window : {0, 16}) {
    check({{2, 64, 16, DType::kF8E4M3}, 4, window, 1.0F, 1.0F, mixed_sequences()});
    check({{2, 64, 16, DType::kF8E4M3}, 16, window, 0.013F, 0.7F, mixed_sequences()});
    check({{2, 20, 4, DType::kF8E4M3}, 2, window, 0.3F, 0.011F, mixed_sequences()});
  }
}

// A cached NaN is not read as a number, as the codes beside it are.
TEST_P(AttentionTest, NanInAnFp8CacheShows) {
  if (GetParam().name.starts_with("cpu"))
    GTEST_SKIP() << "it reads the codes of NaN as numbers (kernels/cpu/decode-inl.h)";
  constexpr int32_t kHeadDim = 256;
  constexpr int32_t kPositions = 64;
  const std::vector<PageId> table = {PageId{0}};
  const std::vector<std::span<const PageId>> tables = {table};
  const auto attend_to = [&](size_t k_nan, size_t v_nan) {
    std::vector<std::byte> k(kPositions * kHeadDim, std::byte{0x30});  // 0.5
    std::vector<std::byte> v(k);
    if (k_nan < k.size()) k[k_nan] = std::byte{0xff};
    if (v_nan < v.size()) v[v_nan] = std::byte{0x7f};
    const KvView kv = {{1, kHeadDim, kPositions, DType::kF8E4M3}, k.data(), v.data(), 1, 1, tables};
    const Tensor q = Tensor::random({1, 2, kHeadDim}, 1, 0.1F);
    Tensor out(q.shape());
    const int32_t position = kPositions - 1;
    be().attention(out.view(), q.view(), kv, 0, one_row(position, {0, 1, position}));
    return out;
  };
  constexpr size_t kNone = kPositions * kHeadDim;
  for (const size_t at : {size_t{0}, size_t{5 * kHeadDim + 77}, kNone - 1}) {
    const Tensor of_value = attend_to(kNone, at);
    const Tensor of_key = attend_to(at, kNone);
    for (int64_t i = 0; i < 2 * kHeadDim; ++i) {
      const bool hit = static_cast<size_t>(i) % kHeadDim == at % kHeadDim;
      EXPECT_EQ(std::isnan(of_value[i]), hit) << "V at " << at << ", component " << i;
      EXPECT_TRUE(std::isnan(of_key[i])) << "K at " << at << ", component " << i;
    }
  }
}

TEST_P(AttentionTest, LongContext) {
  check({{1, 16, 16, DType::kF32}, 2, 0, 1, 1, {{1500, 3, 1}, {700, 1, 2}}});
  check({{1, 16, 16, DType::kF32}, 2, 1024, 1, 1, {{1500, 3, 1}, {1023, 2, 2}}});
}

// What a position gets is the same bits however its step is made: alone, in a chunk, beside others.
TEST_P(AttentionTest, RowsDoNotDependOnTheirCompany) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    for (const int32_t window : {0, 16}) {
      StepSpec spec = {{2, 32, 16, dtype}, 4, window, 0.5F, 0.25F, mixed_sequences()};
      if (dtype != DType::kF8E4M3) spec.k_scale = spec.v_scale = 1.0F;
      PagedStep together(spec);
      together.fill_cache();
      const Tensor all = run(together, window);
      int64_t row = 0;
      for (const SequenceSpec& sequence : mixed_sequences()) {
        for (int32_t i = 0; i < sequence.rows; ++i, ++row) {
          spec.sequences = {{sequence.first_position + i, 1, sequence.seed}};
          PagedStep alone(spec);
          alone.fill_cache();
          expect_same_bits(run(alone, window), all.rows(row, 1),
                           fmt::format("{} window {} row {}", to_string(dtype), window, row));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

class StoreKvTest : public OpTest {
 protected:
  /// The whole cache must be as expected, pages that are not the step's included.
  void check(const StepSpec& spec) {
    SCOPED_TRACE(fmt::format("page {} {}", spec.layout.page_size, to_string(spec.layout.dtype)));
    PagedStep stored(spec);
    be().store_kv(stored.kv(), stored.k().view(), stored.v().view(), stored.batch());
    PagedStep expected(spec);
    expected.fill_step_rows();
    EXPECT_TRUE(std::ranges::equal(stored.k_bytes(), expected.k_bytes())) << "K";
    EXPECT_TRUE(std::ranges::equal(stored.v_bytes(), expected.v_bytes())) << "V";
  }
};

TEST_P(StoreKvTest, WritesItsRowsAndNothingElse) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    for (const int32_t page_size : {4, 16, 64}) {
      for (const int32_t head_dim : {8, 20, 256}) {
        check({{3, head_dim, page_size, dtype}, 3, 0, 1, 1, mixed_sequences()});
        check({{1, head_dim, page_size, dtype}, 1, 16, 1, 1, mixed_sequences()});
      }
    }
  }
}

// e4m3(k / k_scale), K and V each with its own scale.
TEST_P(StoreKvTest, Fp8HasScalesOfItsOwn) {
  check({{2, 256, 16, DType::kF8E4M3}, 2, 0, 0.013F, 0.0021F, mixed_sequences()});
  check({{2, 256, 16, DType::kF8E4M3}, 2, 0, 3.0F, 0.7F, mixed_sequences()});
}

/// The bytes that one position's K becomes.
std::vector<uint8_t> stored_bytes_of(Backend& backend,
                                     DType dtype,
                                     float k_scale,
                                     const std::vector<float>& k) {
  const auto d = static_cast<int32_t>(k.size());
  std::vector<std::byte> k_cache(k.size() * 4);
  std::vector<std::byte> v_cache(k.size() * 4);
  const std::vector<PageId> table = {PageId{0}};
  const std::vector<std::span<const PageId>> tables = {table};
  const KvView kv = {{1, d, 1, dtype}, k_cache.data(), v_cache.data(), k_scale, 1.0F, tables};
  const Tensor rows({1, 1, d}, k);
  const int32_t position = 0;
  backend.store_kv(kv, rows.view(), rows.view(), one_row(position, {0, 1, 0}));
  std::vector<uint8_t> bytes(k.size() * static_cast<size_t>(bits_of(dtype)) / 8);
  std::memcpy(bytes.data(), k_cache.data(), bytes.size());
  return bytes;
}

TEST_P(StoreKvTest, Bf16RoundsToNearestEven) {
  // Halfway between 0x3f80 and 0x3f81, between 0x3f81 and 0x3f82, and just above the first.
  const std::vector<float> k = {1.00390625F, 1.01171875F, 1.00390637F, -1.00390625F};
  EXPECT_EQ(stored_bytes_of(be(), DType::kBF16, 1.0F, k),
            (std::vector<uint8_t>{0x80, 0x3f, 0x82, 0x3f, 0x81, 0x3f, 0x80, 0xbf}));
}

TEST_P(StoreKvTest, Fp8RoundsToNearestEvenAndSaturates) {
  const std::vector<float> k = {1.0F, 1.0625F, 1.1875F, 448.0F, 1e6F, -1e6F, 0x1p-9F, 0x1p-11F};
  EXPECT_EQ(stored_bytes_of(be(), DType::kF8E4M3, 1.0F, k),
            (std::vector<uint8_t>{0x38, 0x38, 0x3a, 0x7e, 0x7e, 0xfe, 0x01, 0x00}));
  EXPECT_EQ(stored_bytes_of(be(), DType::kF8E4M3, 0.5F, {0.5F, 224.0F, 225.0F, -1.0F}),
            (std::vector<uint8_t>{0x38, 0x7e, 0x7e, 0xc0}));
}

// At a tie the product with 1 / k_scale would round to another code than the quotient.
TEST_P(StoreKvTest, Fp8DividesByTheScale) {
  int32_t telling = 0;
  for (const float scale : {0.013F, 0.7F, 3.0F, 0.0371F, 1.1F}) {
    std::vector<float> k;
    std::vector<uint8_t> expected;
    for (int32_t i = 17; i < 400; i += 2) {  // odd sixteenths lie between two codes
      k.push_back(static_cast<float>(i) / 16.0F * scale);
      expected.push_back(float_to_e4m3(k.back() / scale));
      telling += float_to_e4m3(k.back() * (1.0F / scale)) != expected.back() ? 1 : 0;
    }
    EXPECT_EQ(stored_bytes_of(be(), DType::kF8E4M3, scale, k), expected) << scale;
  }
  EXPECT_GT(telling, 0);
}

// What is stored is what attention reads.
TEST_P(StoreKvTest, ThenAttentionReads) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const StepSpec spec = {{2, 32, 4, dtype}, 4, 0, 1, 1, {{0, 21, 1}, {0, 4, 2}}};
    PagedStep step(spec);
    be().store_kv(step.kv(), step.k().view(), step.v().view(), step.batch());
    const Tensor q = step.q();
    Tensor out(q.shape());
    be().attention(out.view(), q.view(), step.kv(), 0, step.batch());
    expect_close(out, step.attention(), kAttention);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest, testing::ValuesIn(backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, StoreKvTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
