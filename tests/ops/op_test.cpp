#include "tests/ops/op_test.h"

#include <bit>
#include <cmath>
#include <fmt/core.h>
#include <limits>
#include <random>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/ref/ref_backend.h"
#include "quant/float_formats.h"
#include "tests/ops/hosted_backend.h"

namespace facet::test {

// Every instruction set that this machine has, on one thread and on more than it may have cores.
std::vector<BackendCase> backends() {
  std::vector<BackendCase> result = {{"ref", ref::make_ref_backend}};
  for (const cpu::Isa isa : cpu::supported_isas()) {
    for (const int32_t threads : {1, 3}) {
      std::string name = fmt::format("cpu_{}_x{}", cpu::to_string(isa), threads);
      std::erase(name, '-');
      result.push_back({name, [=] { return cpu::make_cpu_backend({isa, threads}); }});
    }
  }
  result.push_back({"cuda",
                    [] { return std::make_unique<HostedBackend>(cuda::make_cuda_backend()); }, true,
                    cuda::unavailable()});
  return result;
}

void OpTest::SetUp() {
  if (GetParam().absent) GTEST_SKIP() << *GetParam().absent;
  backend_ = GetParam().make();
}

Tensor OpTest::entering(const Tensor& x) const {
  Tensor result = x;
  if (!GetParam().rounds_to_bf16) return result;
  for (int64_t i = 0; i < x.elements(); ++i) result[i] = bf16_to_float(float_to_bf16(x[i]));
  return result;
}

std::string backend_name(const testing::TestParamInfo<BackendCase>& info) {
  return info.param.name;
}

void PrintTo(const BackendCase& backend, std::ostream* out) { *out << backend.name; }

Tensor::Tensor(const Shape& shape)
    : shape_(shape),
      values_(static_cast<size_t>(shape.elements()), std::numeric_limits<float>::quiet_NaN()) {}

Tensor::Tensor(const Shape& shape, std::vector<float> values)
    : shape_(shape), values_(std::move(values)) {
  CHECK(static_cast<int64_t>(values_.size()) == shape.elements(), "{} values for {}",
        values_.size(), to_string(shape));
}

Tensor Tensor::random(const Shape& shape, uint32_t seed, float range) {
  Tensor result(shape);
  std::mt19937 bits(seed);
  for (float& value : result.values_) {
    value = range * (static_cast<float>(bits() >> 8) * 0x1p-23F - 1.0F);
  }
  return result;
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  std::vector<int64_t> extents(shape_.extents().begin(), shape_.extents().end());
  extents[0] = count;
  const auto from = values_.begin() + begin * row_width();
  return {Shape(extents), std::vector<float>(from, from + count * row_width())};
}

void Tensor::fill_row(int64_t row, float value) {
  for (int64_t i = 0; i < row_width(); ++i) (*this)[row * row_width() + i] = value;
}

void expect_close(const Tensor& actual, const std::vector<Expected>& expected, double tolerance) {
  ASSERT_EQ(actual.values().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto found = static_cast<double>(actual.values()[i]);
    const double allowed = tolerance * expected[i].magnitude;
    ASSERT_LE(std::abs(found - expected[i].value), allowed)
        << "at " << i << " of " << to_string(actual.shape()) << ": " << found << ", not "
        << expected[i].value;
  }
}

void expect_same_bits(const Tensor& actual, const Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  for (int64_t i = 0; i < actual.elements(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << ": at " << i << " of " << to_string(actual.shape()) << ": " << actual[i]
        << ", not " << expected[i];
  }
}

double activation_value(ActivationFunction function, double z) {
  switch (function) {
    case ActivationFunction::kSilu:
      return z / (1 + std::exp(-z));
    case ActivationFunction::kGeluTanh:
      return 0.5 * z * (1 + std::tanh(0.7978845608028654 * (z + 0.044715 * std::pow(z, 3))));
    case ActivationFunction::kRelu2:
      break;
  }
  return z > 0 ? z * z : 0;
}

std::vector<Expected> expected_linear(const Tensor& x, const WeightMatrix& w) {
  const int64_t rows = x.shape()[0];
  std::vector<Expected> result(static_cast<size_t>(rows * w.rows));
  std::vector<float> weights(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w, r, weights);
    for (int64_t t = 0; t < rows; ++t) {
      Expected& sum = result[static_cast<size_t>(t * w.rows + r)];
      for (int64_t c = 0; c < w.cols; ++c) {
        const double term = static_cast<double>(x[t * w.cols + c]) *
                            static_cast<double>(weights[static_cast<size_t>(c)]);
        sum.value += term;
        sum.magnitude += std::abs(term);
      }
    }
  }
  return result;
}

}  // namespace facet::test
