#include "kernels/ref/ref_backend.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "base/check.h"
#include "kernels/ref/operand.h"

namespace facet::ref {
namespace {

bool is_plain(WeightFormat format) {
  return format == WeightFormat::kF32 || format == WeightFormat::kF16 ||
         format == WeightFormat::kBF16;
}

double apply(ActivationFunction function, double z) {
  switch (function) {
    case ActivationFunction::kSilu:
      return z / (1.0 + std::exp(-z));
    case ActivationFunction::kGeluTanh: {
      const double root = std::sqrt(2.0 * std::numbers::inv_pi);
      return 0.5 * z * (1.0 + std::tanh(root * (z + 0.044715 * z * z * z)));
    }
    case ActivationFunction::kRelu2:
      return std::max(z, 0.0) * std::max(z, 0.0);
  }
  CHECK(false, "activation function {}", static_cast<int>(function));
}

/// Rotates one head [D] at one position.
void rotate(float* head, int32_t position, const RopeTable& table) {
  const int64_t half = table.head_dim / 2;
  for (size_t i = 0; i < table.frequencies.size(); ++i) {
    const float angle = static_cast<float>(position) * table.frequencies[i];
    const float cosine = std::cos(angle);
    const float sine = std::sin(angle);
    float& first = head[i];
    float& second = head[static_cast<size_t>(half) + i];
    const float rotated = first * cosine - second * sine;
    second = second * cosine + first * sine;
    first = rotated;
  }
}

}  // namespace

std::unique_ptr<Backend> make_ref_backend() { return std::make_unique<RefBackend>(); }

void RefBackend::embed(TensorView out,
                       const WeightMatrix& table,
                       std::span<const int32_t> ids,
                       float scale) {
  CHECK(is_plain(table.format), "an embedding table in {}", to_string(table.format));
  const auto rows = static_cast<int64_t>(ids.size());
  float* to = values(out, {rows, table.cols}, "out");
  for (const int32_t id : ids) {
    dequantize_row(table, id, {to, static_cast<size_t>(table.cols)});
    for (int64_t c = 0; c < table.cols; ++c) to[c] *= scale;
    to += table.cols;
  }
}

void RefBackend::rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) {
  CHECK(x.shape().rank() > 0, "a scalar has no last axis");
  const int64_t n = x.shape()[x.shape().rank() - 1];
  CHECK(weight.empty() || static_cast<int64_t>(weight.size()) == n, "{} weights for {}",
        weight.size(), to_string(x.shape()));
  const float* from = values(x, x.shape(), "x");
  float* to = values(out, x.shape(), "out");
  const int64_t rows = n == 0 ? 0 : x.elements() / n;
  for (int64_t row = 0; row < rows; ++row, from += n, to += n) {
    const double mean = dot(from, from, n) / static_cast<double>(n);
    const auto inverse = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
    for (int64_t i = 0; i < n; ++i) {
      const float normed = from[i] * inverse;
      to[i] = weight.empty() ? normed : normed * weight[static_cast<size_t>(i)];
    }
  }
}

void RefBackend::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  const int64_t rows = x.rows();
  const float* from = values(x, {rows, w.cols}, "x");
  float* to = values(out, {rows, w.rows}, "out");
  std::vector<float> weights(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w, r, weights);
    for (int64_t t = 0; t < rows; ++t) {
      to[t * w.rows + r] = static_cast<float>(dot(from + t * w.cols, weights.data(), w.cols));
    }
  }
}

void RefBackend::rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) {
  CHECK(x.shape().rank() == 3, "x is {}, not [T, heads, D]", to_string(x.shape()));
  CHECK(table.head_dim % 2 == 0 &&
            static_cast<int64_t>(table.frequencies.size()) <= table.head_dim / 2,
        "{} angles for a head of {}", table.frequencies.size(), table.head_dim);
  const int64_t heads = x.shape()[1];
  float* head =
      values(x, {static_cast<int64_t>(positions.size()), heads, int64_t{table.head_dim}}, "x");
  for (const int32_t position : positions) {
    for (int64_t i = 0; i < heads; ++i, head += table.head_dim) rotate(head, position, table);
  }
}

void RefBackend::activate(TensorView out,
                          TensorView gate,
                          TensorView up,
                          const Activation& activation) {
  const bool gated = activation.gating == Gating::kGated;
  CHECK(gated != gate.empty(), "{} {} a gate", to_string(activation), gated ? "without" : "with");
  const int64_t count = up.elements();
  const float* u = values(up, up.shape(), "up");
  const float* g = gated ? values(gate, up.shape(), "gate") : nullptr;
  float* to = values(out, up.shape(), "out");
  for (int64_t i = 0; i < count; ++i) {
    const double activated = apply(activation.function, static_cast<double>(gated ? g[i] : u[i]));
    to[i] = static_cast<float>(gated ? activated * static_cast<double>(u[i]) : activated);
  }
}

void RefBackend::add(TensorView x, TensorView y) {
  float* to = values(x, x.shape(), "x");
  const float* from = values(y, x.shape(), "y");
  for (int64_t i = 0; i < x.elements(); ++i) to[i] += from[i];
}

void RefBackend::scale(TensorView x, float factor) {
  for (float& value : x.as<float>()) value *= factor;
}

void RefBackend::soft_cap(TensorView x, float cap) {
  CHECK(cap > 0, "cap {}", cap);
  const auto wide = static_cast<double>(cap);
  for (float& value : x.as<float>()) {
    value = static_cast<float>(wide * std::tanh(static_cast<double>(value) / wide));
  }
}

void RefBackend::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  CHECK(x.shape().rank() == 2, "x is {}, not [T, N]", to_string(x.shape()));
  const int64_t width = x.shape()[1];
  const float* from = values(x, x.shape(), "x");
  float* to = values(out, {static_cast<int64_t>(rows.size()), width}, "out");
  for (const int32_t row : rows) {
    CHECK(row >= 0 && row < x.rows(), "row {} of {}", row, to_string(x.shape()));
    to = std::copy_n(from + row * width, width, to);
  }
}

}  // namespace facet::ref
