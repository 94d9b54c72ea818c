#pragma once

#include <cstdint>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/tolerance.h"

namespace facet::test {

/// A backend under test. Every op test runs on each of backends().
struct BackendCase {
  std::string name;
  std::function<std::unique_ptr<Backend>()> make;
  /// linear() and experts() round their input to BF16.
  bool rounds_to_bf16 = false;
  /// Why it cannot run here, if it cannot: its tests are skipped.
  std::optional<std::string> absent = std::nullopt;
};
std::vector<BackendCase> backends();
std::string backend_name(const testing::TestParamInfo<BackendCase>& info);
void PrintTo(const BackendCase& backend, std::ostream* out);

/// Float32 values under a shape. A fresh one is full of NaN: an op must write all of its output and
/// may not read it.
class Tensor {
 public:
  explicit Tensor(const Shape& shape);
  Tensor(const Shape& shape, std::vector<float> values);
  /// Uniform in [-1, 1) * range; the same for the same seed.
  static Tensor random(const Shape& shape, uint32_t seed, float range = 1.0F);

  TensorView view() const { return {values_.data(), DType::kF32, shape_}; }
  const Shape& shape() const { return shape_; }
  int64_t elements() const { return shape_.elements(); }
  int64_t row_width() const { return elements() / shape_[0]; }
  float& operator[](int64_t index) { return values_[static_cast<size_t>(index)]; }
  float operator[](int64_t index) const { return values_[static_cast<size_t>(index)]; }
  std::span<const float> values() const { return values_; }
  /// A copy of rows [begin, begin + count).
  Tensor rows(int64_t begin, int64_t count) const;
  /// All of row `row` becomes `value`.
  void fill_row(int64_t row, float value);

 private:
  Shape shape_;
  std::vector<float> values_;
};

class OpTest : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override;
  Backend& be() { return *backend_; }
  /// What linear() computes with when it is given x.
  Tensor entering(const Tensor& x) const;
  /// The tolerance of experts(), whose inner values are rounded as x is.
  double experts_tolerance() const { return GetParam().rounds_to_bf16 ? kBf16Inner : kSum; }

 private:
  std::unique_ptr<Backend> backend_;
};

/// A value and the size of what it was made of: the sum of the magnitudes of a sum's terms.
struct Expected {
  double value = 0;
  double magnitude = 0;
};

/// A value that no cancellation produced.
inline Expected exactly(double value) { return {value, value < 0 ? -value : value}; }

/// |actual - value| <= tolerance * magnitude everywhere; the first miss fails the test.
void expect_close(const Tensor& actual, const std::vector<Expected>& expected, double tolerance);
/// Equal bit for bit, NaN and the sign of zero included; the first miss fails the test.
void expect_same_bits(const Tensor& actual, const Tensor& expected, const std::string& what = {});

/// Rows and widths that fit no tile and no vector.
inline constexpr int64_t kAwkwardRows[] = {1, 2, 7, 33};
inline constexpr int64_t kAwkwardWidths[] = {1, 3, 17, 112, 352};

/// f(z) of an activation, from its definition.
double activation_value(ActivationFunction function, double z);
/// x · wᵀ with each row of dequantize_row, in double.
std::vector<Expected> expected_linear(const Tensor& x, const WeightMatrix& w);

}  // namespace facet::test
