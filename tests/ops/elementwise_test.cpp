// embed, add, scale, soft_cap, gather_rows.

#include <bit>
#include <cmath>
#include <fmt/core.h>
#include <limits>

#include "tests/ops/op_test.h"
#include "tests/ops/stored_matrix.h"

namespace facet::test {
namespace {

class ElementwiseTest : public OpTest {};

// One product a value: exact on every backend.
TEST_P(ElementwiseTest, EmbedScalesRowsOfPlainTables) {
  for (const MatrixKind& kind : {kMatrixKinds[0], kMatrixKinds[1], kMatrixKinds[2]}) {
    for (const int64_t width : kAwkwardWidths) {
      for (const int64_t rows : kAwkwardRows) {
        SCOPED_TRACE(fmt::format("{} [{}, {}]", kind.name, rows, width));
        const StoredMatrix table(kind, 11, width, 3);
        std::vector<int32_t> ids;
        for (int64_t t = 0; t < rows; ++t) ids.push_back(static_cast<int32_t>(t * 7 % 11));
        Tensor expected({rows, width});
        std::vector<float> row(static_cast<size_t>(width));
        for (int64_t t = 0; t < rows; ++t) {
          dequantize_row(table.matrix(), ids[static_cast<size_t>(t)], row);
          for (int64_t i = 0; i < width; ++i)
            expected[t * width + i] = row[static_cast<size_t>(i)] * 10.5625F;
        }
        Tensor out({rows, width});
        be().embed(out.view(), table.matrix(), ids, 10.5625F);
        expect_same_bits(out, expected);
      }
    }
  }
}

TEST_P(ElementwiseTest, EmbedTakesFirstAndLastIdAndRepeats) {
  const StoredMatrix table(4, 2, {1, 2, 3, 4, 5, 6, 7, 8});
  const std::vector<int32_t> ids = {3, 0, 3};
  Tensor out({3, 2});
  be().embed(out.view(), table.matrix(), ids, 2.0F);
  expect_same_bits(out, Tensor({3, 2}, {14, 16, 2, 4, 14, 16}));
}

TEST_P(ElementwiseTest, AddAndScaleAreExact) {
  for (const int64_t width : kAwkwardWidths) {
    for (const int64_t rows : kAwkwardRows) {
      const Tensor before = Tensor::random({rows, width}, 5, 100.0F);
      const Tensor y = Tensor::random({rows, width}, 6);
      Tensor x = before;
      Tensor sum({rows, width});
      for (int64_t i = 0; i < x.elements(); ++i) sum[i] = before[i] + y[i];
      be().add(x.view(), y.view());
      expect_same_bits(x, sum, "add");
      x = before;
      for (int64_t i = 0; i < x.elements(); ++i) sum[i] = before[i] * 0.0059F;
      be().scale(x.view(), 0.0059F);
      expect_same_bits(x, sum, "scale");
    }
  }
}

TEST_P(ElementwiseTest, AddTakesAnyRank) {
  Tensor x = Tensor::random({3, 5, 7}, 1);
  const Tensor y = Tensor::random({3, 5, 7}, 2);
  const float last = x[104] + y[104];
  be().add(x.view(), y.view());
  EXPECT_EQ(x[104], last);
}

TEST_P(ElementwiseTest, SoftCapIsCapTimesTanh) {
  for (const int64_t width : kAwkwardWidths) {
    Tensor x = Tensor::random({7, width}, 8, 120.0F);
    std::vector<Expected> expected;
    for (const float value : x.values())
      expected.push_back(exactly(30.0 * std::tanh(static_cast<double>(value) / 30.0)));
    be().soft_cap(x.view(), 30.0F);
    expect_close(x, expected, kTranscendental);
  }
}

TEST_P(ElementwiseTest, SoftCapAtItsEnds) {
  const float huge = std::numeric_limits<float>::max();
  const float infinite = std::numeric_limits<float>::infinity();
  Tensor x({9}, {0, -0.0F, 1e4F, -1e4F, huge, -huge, infinite, 1e-5F, -1e-20F});
  be().soft_cap(x.view(), 30.0F);
  EXPECT_EQ(x[0], 0.0F);
  EXPECT_EQ(x[1], 0.0F);
  for (const int64_t i : {2, 4, 6}) EXPECT_FLOAT_EQ(x[i], 30.0F) << i;
  for (const int64_t i : {3, 5}) EXPECT_FLOAT_EQ(x[i], -30.0F) << i;
  // Near zero the cap is the identity: a tanh out of two exps would lose these.
  EXPECT_NEAR(x[7], 1e-5F, 1e-5 * kTranscendental);
  EXPECT_NEAR(x[8], -1e-20F, 1e-20 * kTranscendental);
}

TEST_P(ElementwiseTest, GatherRowsInAnyOrder) {
  for (const int64_t width : kAwkwardWidths) {
    const Tensor x = Tensor::random({33, width}, 2);
    const std::vector<int32_t> rows = {32, 0, 5, 5, 31};
    Tensor out({5, width});
    be().gather_rows(out.view(), x.view(), rows);
    for (size_t r = 0; r < rows.size(); ++r) {
      expect_same_bits(out.rows(static_cast<int64_t>(r), 1), x.rows(rows[r], 1));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ElementwiseTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
