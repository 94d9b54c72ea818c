#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/decode_columns.h"
#include "kernels/cpu/test_matrix.h"
#include "tests/tolerance.h"

namespace facet::cpu {
namespace {

using test::fitting_cols;
using test::matrix_kinds;
using test::MatrixKind;
using test::random_floats;
using test::same_bits;
using test::TestMatrix;
using test::view_of;

/// out = x · wᵀ by a backend of its own.
std::vector<float> product(const CpuOptions& options,
                           const WeightMatrix& w,
                           const std::vector<float>& x) {
  const int64_t rows = static_cast<int64_t>(x.size()) / w.cols;
  std::vector<float> out(static_cast<size_t>(rows * w.rows),
                         std::numeric_limits<float>::quiet_NaN());
  make_cpu_backend(options)->linear(view_of(out, {rows, w.rows}), view_of(x, {rows, w.cols}), w);
  return out;
}

/// Every instruction set this machine has, with every layout.
using Case = std::tuple<Isa, MatrixKind>;
class CpuLinear : public testing::TestWithParam<Case> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  const MatrixKind& kind() const { return std::get<1>(GetParam()); }
};

TEST_P(CpuLinear, WeightsEnterExactly) {
  // Row c of x is 1 at column c alone, so out[c][r] is w[r, c] to the bit. 1, 4 and 5 rows of x at
  // a time take the different paths.
  for (const int64_t wanted : {1, 40, 333, 528}) {
    const int64_t cols = fitting_cols(kind(), wanted);
    const TestMatrix w(kind(), 137, cols, 7);
    const std::vector<float> values = w.values();
    for (const int64_t at_once : {int64_t{1}, int64_t{4}, cols}) {
      const auto backend = make_cpu_backend({isa(), 1});
      for (int64_t first = 0; first < cols; first += at_once) {
        const int64_t rows = std::min(at_once, cols - first);
        std::vector<float> x(static_cast<size_t>(rows * cols));
        for (int64_t t = 0; t < rows; ++t) x[static_cast<size_t>(t * cols + first + t)] = 1.0F;
        std::vector<float> out(static_cast<size_t>(rows * 137));
        backend->linear(view_of(out, {rows, 137}), view_of(x, {rows, cols}), w.view());
        for (int64_t i = 0; i < rows * 137; ++i) {
          const int64_t column = first + i / 137;
          ASSERT_EQ(out[static_cast<size_t>(i)],
                    values[static_cast<size_t>(i % 137 * cols + column)])
              << "row " << i % 137 << " column " << column << " of " << cols << ", " << at_once
              << " at once";
        }
      }
    }
  }
}

TEST_P(CpuLinear, EqualsPlainSums) {
  for (const int64_t tokens : {1, 2, 3, 4, 5, 17}) {
    for (const int64_t wanted : {8, 100, 704, 1000}) {
      const int64_t cols = fitting_cols(kind(), wanted);
      const int64_t rows = 150;
      const TestMatrix w(kind(), rows, cols, 3);
      const std::vector<float> values = w.values();
      const std::vector<float> x = random_floats(tokens * cols, 5);
      const std::vector<float> out = product({isa(), 2}, w.view(), x);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t r = 0; r < rows; ++r) {
          double sum = 0.0;
          double size = 0.0;
          for (int64_t c = 0; c < cols; ++c) {
            const double term = static_cast<double>(x[static_cast<size_t>(t * cols + c)]) *
                                static_cast<double>(values[static_cast<size_t>(r * cols + c)]);
            sum += term;
            size += std::fabs(term);
          }
          ASSERT_NEAR(out[static_cast<size_t>(t * rows + r)], sum, size * facet::test::kSum)
              << "token " << t << " of " << tokens << " row " << r << " columns " << cols;
        }
      }
    }
  }
}

TEST_P(CpuLinear, RowsDoNotDependOnEachOther) {
  for (const int64_t wanted : {64, 300, 1200}) {
    const int64_t cols = fitting_cols(kind(), wanted);
    const int64_t rows = 77;
    const int64_t most = 200;  // more than the accumulators that are kept at a time
    const TestMatrix w(kind(), rows, cols, 11);
    const std::vector<float> x = random_floats(most * cols, 13);
    const std::vector<float> all = product({isa(), 1}, w.view(), x);
    for (const int64_t tokens : {1, 2, 3, 4, 5, 8, 33, 200}) {
      for (const int32_t threads : {1, 3}) {
        // The last rows of x, so that they stand elsewhere in the call than before.
        const std::vector<float> some(x.end() - tokens * cols, x.end());
        EXPECT_TRUE(same_bits(product({isa(), threads}, w.view(), some),
                              std::span(all).last(static_cast<size_t>(tokens * rows))))
            << tokens << " tokens, " << threads << " threads, " << cols << " columns";
      }
    }
  }
}

TEST_P(CpuLinear, SlicedRowsGiveTheSame) {
  const int64_t cols = fitting_cols(kind(), 320);
  const TestMatrix w(kind(), 300, cols, 17);
  for (const int64_t tokens : {1, 6}) {
    const std::vector<float> x = random_floats(tokens * cols, 19);
    const std::vector<float> all = product({isa(), 1}, w.view(), x);
    const int64_t begin = kind().format == WeightFormat::kFp8Block ? 128 : 101;
    const std::vector<float> part = product({isa(), 1}, slice_rows(w.view(), begin, 99), x);
    for (int64_t t = 0; t < tokens; ++t) {
      EXPECT_TRUE(same_bits(std::span(part).subspan(static_cast<size_t>(t * 99), 99),
                            std::span(all).subspan(static_cast<size_t>(t * 300 + begin), 99)));
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const Isa isa : supported_isas()) {
    for (const MatrixKind& kind : matrix_kinds()) result.emplace_back(isa, kind);
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(
    All, CpuLinear, testing::ValuesIn(cases()), [](const testing::TestParamInfo<Case>& info) {
      return test::isa_name(std::get<0>(info.param)) + "_" + std::get<1>(info.param).name;
    });

TEST(CpuLinearCodes, EveryCodeOfEveryFormat) {
  // One row with every code of 8 or 16 bits that is a number.
  for (const WeightFormat format : {WeightFormat::kF16, WeightFormat::kBF16, WeightFormat::kFp8}) {
    const int64_t codes = format == WeightFormat::kFp8 ? 256 : 65536;
    std::vector<std::byte> data(static_cast<size_t>(codes * 2));
    for (int64_t i = 0; i < codes; ++i) {
      const auto code = static_cast<uint16_t>(i);
      if (format == WeightFormat::kFp8) {
        data[static_cast<size_t>(i)] = std::byte{static_cast<uint8_t>(code)};
      } else {
        std::memcpy(data.data() + 2 * i, &code, 2);
      }
    }
    const float scale = 1000.0F;
    WeightMatrix w;
    w.format = format;
    w.rows = codes / 256;
    w.cols = 256;
    w.data = data.data();
    w.scales = reinterpret_cast<const std::byte*>(&scale);
    w.scale_rows = 1;
    std::vector<float> x(256 * 256);
    for (size_t i = 0; i < 256; ++i) x[i * 257] = 1.0F;
    std::vector<float> row(256);
    for (const Isa isa : supported_isas()) {
      const auto backend = make_cpu_backend({isa, 2});
      std::vector<float> out(static_cast<size_t>(256 * w.rows));
      for (int64_t r = 0; r < w.rows; ++r) {
        dequantize_row(w, r, row);
        bool numbers = true;
        for (const float value : row) numbers = numbers && std::isfinite(value);
        const WeightMatrix one = slice_rows(w, format == WeightFormat::kFp8 ? 0 : r, 1);
        // An infinity or NaN would spoil its neighbours' sums, so these rows go column by column.
        for (int64_t c = 0; c < 256 && !numbers; ++c) {
          float decoded = 0.0F;
          decode_columns(one, 0, c, 1, &decoded);
          EXPECT_TRUE(decoded == row[static_cast<size_t>(c)] ||
                      (std::isnan(decoded) && std::isnan(row[static_cast<size_t>(c)])));
        }
        if (!numbers && format != WeightFormat::kFp8) continue;
        backend->linear(view_of(out, {256, 1}).slice_rows(0, 256), view_of(x, {256, 256}), one);
        for (size_t c = 0; c < 256; ++c) {
          if (std::isfinite(row[c])) {
            ASSERT_EQ(out[c], row[c]) << to_string(format) << " row " << r << " column " << c;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace facet::cpu
