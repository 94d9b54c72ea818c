// out = x · wᵀ in every weight format, at shapes that fit no tile.

#include <cmath>
#include <fmt/core.h>

#include "tests/ops/op_test.h"
#include "tests/ops/stored_matrix.h"

namespace facet::test {
namespace {

class LinearTest : public OpTest {
 protected:
  void check(const MatrixKind& kind, int64_t tokens, int64_t rows, int64_t cols) {
    SCOPED_TRACE(fmt::format("{}: T {}, w [{}, {}]", kind.name, tokens, rows, cols));
    const StoredMatrix w(kind, rows, cols, static_cast<uint32_t>(rows * 1000 + cols));
    const Tensor x = Tensor::random({tokens, cols}, static_cast<uint32_t>(tokens));
    Tensor out({tokens, rows});
    be().linear(out.view(), x.view(), w.matrix());
    expect_close(out, expected_linear(entering(x), w.matrix()), kSum);
  }

  void check_kind(const char* name) {
    for (const MatrixKind& kind : kMatrixKinds) {
      if (kind.name != std::string(name)) continue;
      for (const int64_t tokens : kAwkwardRows) {
        for (const int64_t rows : {1, 3, 127}) {
          for (const int64_t cols : widths(kind)) check(kind, tokens, rows, cols);
        }
      }
      return;
    }
    FAIL() << "no kind is called " << name;
  }

  static std::vector<int64_t> widths(const MatrixKind& kind) {
    if (kind.column_step == 1) return {std::begin(kAwkwardWidths), std::end(kAwkwardWidths)};
    if (kind.column_step == 16) return {16, 48, 112, 352};
    return {kind.column_step, 3 * kind.column_step};
  }
};

TEST_P(LinearTest, HandComputed) {
  const StoredMatrix w(2, 3, {1, 2, 3, -1, 0.5F, 0});
  const Tensor x({2, 3}, {1, 1, 1, 2, -4, 8});
  Tensor out({2, 2});
  be().linear(out.view(), x.view(), w.matrix());
  EXPECT_EQ(std::vector<float>(out.values().begin(), out.values().end()),
            (std::vector<float>{6, -0.5F, 18, -4}));
}

TEST_P(LinearTest, F32) { check_kind("f32"); }
TEST_P(LinearTest, F16) { check_kind("f16"); }
TEST_P(LinearTest, Bf16) { check_kind("bf16"); }
TEST_P(LinearTest, Fp8PerRow) { check_kind("fp8 per row"); }
TEST_P(LinearTest, Fp8PerTensor) { check_kind("fp8 per tensor"); }
TEST_P(LinearTest, Fp8Blocks) { check_kind("fp8 blocks"); }
TEST_P(LinearTest, Fp8BlocksWithBf16Scales) { check_kind("fp8 blocks, bf16 scales"); }
TEST_P(LinearTest, Nvfp4) { check_kind("nvfp4"); }
TEST_P(LinearTest, Int4Groups32) { check_kind("int4 g32"); }
TEST_P(LinearTest, Int4Groups32WithF32Scales) { check_kind("int4 g32, f32 scales"); }
TEST_P(LinearTest, Int4Groups128) { check_kind("int4 g128"); }

// Blocks of 128 x 128 with ragged edges in both directions.
TEST_P(LinearTest, RaggedFp8Blocks) {
  for (const int64_t tokens : {1, 5}) {
    check(kMatrixKinds[5], tokens, 130, 200);
    check(kMatrixKinds[5], tokens, 257, 129);
    check(kMatrixKinds[5], tokens, 128, 128);
    check(kMatrixKinds[6], tokens, 130, 200);
  }
}

// A slice begins in the middle of the scales.
TEST_P(LinearTest, SlicesOfRows) {
  for (const MatrixKind& kind : kMatrixKinds) {
    SCOPED_TRACE(kind.name);
    const int64_t begin = kind.format == WeightFormat::kFp8Block ? 128 : 5;
    const StoredMatrix stored(kind, 150, 384, 9);
    const WeightMatrix slice = slice_rows(stored.matrix(), begin, 19);
    const Tensor x = Tensor::random({3, 384}, 4);
    Tensor out({3, 19});
    be().linear(out.view(), x.view(), slice);
    expect_close(out, expected_linear(entering(x), slice), kSum);
  }
}

TEST_P(LinearTest, ManyRowsOfEach) {
  for (const MatrixKind& kind : kMatrixKinds) check(kind, 70, 130, 384);
}

// Large terms that cancel leave an error of the terms' size, not of the result's, and no more.
TEST_P(LinearTest, Cancellation) {
  std::vector<float> weights(512);
  Tensor x({1, 512});
  for (int64_t i = 0; i < 512; ++i) {
    weights[static_cast<size_t>(i)] = i % 2 == 0 ? 1000.0F : -1000.0F;
    x[i] = 1.0F + static_cast<float>(i) * 1e-4F;
  }
  const StoredMatrix w(1, 512, weights);
  Tensor out({1, 1});
  be().linear(out.view(), x.view(), w.matrix());
  expect_close(out, expected_linear(entering(x), w.matrix()), kSum);
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
