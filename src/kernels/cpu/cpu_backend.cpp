#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "kernels/cpu/work.h"
#include "quant/float_formats.h"

namespace facet::cpu {
namespace {

/// Cost of an element that goes through exp or tanh.
constexpr int64_t kExpCost = 8;

int64_t last_extent(const TensorView& x) { return x.shape()[x.shape().rank() - 1]; }

void check_same(const TensorView& a, const TensorView& b) {
  CHECK(a.shape() == b.shape(), "{} and {}", to_string(a.shape()), to_string(b.shape()));
}

}  // namespace

CpuBackend::CpuBackend(Isa isa, int32_t threads)
    : isa_(isa), kernels_(kernel_table(isa)), pool_(threads) {
  description_ = fmt::format("cpu ({}, {} thread{})", to_string(isa), pool_.threads(),
                             pool_.threads() == 1 ? "" : "s");
}

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  const Isa best = best_isa();
  const std::vector<Isa> isas = supported_isas();
  const Isa isa = options.isa.value_or(best);
  if (std::find(isas.begin(), isas.end(), isa) == isas.end()) {
    throw Error(ErrorCode::kUsage, fmt::format("this machine cannot run {} kernels; it has {}",
                                               to_string(isa), list_of(isas)));
  }
  return std::make_unique<CpuBackend>(isa, options.threads);
}

void CpuBackend::for_range(int64_t count, int64_t cost, RangeBody body) {
  pool_.parallel_for(count, std::max<int64_t>(1, kPieceCost / std::max<int64_t>(1, cost)), body);
}

void CpuBackend::embed(TensorView out,
                       const WeightMatrix& table,
                       std::span<const int32_t> ids,
                       float scale) {
  const int64_t width = table.cols;
  CHECK(out.shape() == (Shape{static_cast<int64_t>(ids.size()), width}),
        "{} for {} ids of width {}", to_string(out.shape()), ids.size(), width);
  for (const int32_t id : ids) CHECK(id >= 0 && id < table.rows, "id {} of {}", id, table.rows);
  const std::span<float> values = out.as<float>();
  for_range(out.rows(), width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto row = values.subspan(static_cast<size_t>(t * width), static_cast<size_t>(width));
      dequantize_row(table, ids[static_cast<size_t>(t)], row);
      kernels_.scale(row.data(), scale, width);
    }
  });
}

void CpuBackend::rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) {
  check_same(out, x);
  const int64_t width = last_extent(x);
  CHECK(weight.empty() || static_cast<int64_t>(weight.size()) == width, "{} weights for width {}",
        weight.size(), width);
  if (x.elements() == 0) return;
  const float* from = x.as<float>().data();
  float* to = out.as<float>().data();
  for_range(x.elements() / width, width, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernels_.rms_norm(to + row * width, from + row * width,
                        weight.empty() ? nullptr : weight.data(), width, eps);
    }
  });
}

void CpuBackend::fill_rows(
    const float* x, int64_t x_stride, float* out, int64_t out_stride, int64_t rows) {
  x_rows_.resize(static_cast<size_t>(rows));
  out_rows_.resize(static_cast<size_t>(rows));
  for (int64_t t = 0; t < rows; ++t) {
    x_rows_[static_cast<size_t>(t)] = x + t * x_stride;
    out_rows_[static_cast<size_t>(t)] = out + t * out_stride;
  }
}

void CpuBackend::ArrangedRows::resize(int64_t rows, int64_t cols) {
  // 16 floats: the multiple of 64 bytes that the kernels want.
  constexpr int64_t kSlack = 16;
  // Rows 4 kB apart would all share a few places of the first cache.
  constexpr int64_t kPage = 1024;
  int64_t stride = arranged_size(cols);
  if (stride % kPage == 0) stride += kPage / 4;
  grow(floats, rows * stride + kSlack);
  const auto address = reinterpret_cast<uintptr_t>(floats.data()) / sizeof(float);
  float* first = floats.data() + (kSlack - static_cast<int64_t>(address % kSlack)) % kSlack;
  pointers.resize(static_cast<size_t>(rows));
  for (int64_t t = 0; t < rows; ++t) pointers[static_cast<size_t>(t)] = first + t * stride;
}

std::span<const float* const> CpuBackend::arrange_rows(XOrder order,
                                                       std::span<const float* const> x,
                                                       int64_t cols) {
  ArrangedRows& rows = arranged_[static_cast<size_t>(order)];
  rows.resize(static_cast<int64_t>(x.size()), cols);
  for_range(static_cast<int64_t>(x.size()), 2 * cols, [&](int64_t begin, int64_t end) {
    for (auto t = static_cast<size_t>(begin); t < static_cast<size_t>(end); ++t) {
      kernels_.arrange(order, x[t], cols, rows.pointers[t]);
    }
  });
  return rows.pointers;
}

void CpuBackend::linear_rows(const WeightMatrix& w,
                             std::span<const float* const> x,
                             std::span<float* const> out) {
  x = arrange_rows(x_order(w), x, w.cols);
  const int64_t grain =
      rows_per_piece(w.rows, w.cols, static_cast<int64_t>(x.size()), pool_.threads());
  pool_.parallel_for(w.rows, grain, [&](int64_t begin, int64_t end) {
    kernels_.linear({&w, begin, end, x, out});
  });
}

void CpuBackend::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  CHECK(x.shape().rank() == 2 && x.shape()[1] == w.cols && out.shape() == (Shape{x.rows(), w.rows}),
        "{} = {} x [{}, {}]", to_string(out.shape()), to_string(x.shape()), w.rows, w.cols);
  fill_rows(x.as<float>().data(), w.cols, out.as<float>().data(), w.rows, x.rows());
  linear_rows(w, x_rows_, out_rows_);
}

void CpuBackend::rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) {
  const auto rows = static_cast<int64_t>(positions.size());
  const auto angles = static_cast<int64_t>(table.frequencies.size());
  CHECK(x.shape().rank() == 3 && x.rows() == rows && x.shape()[2] == table.head_dim &&
            2 * angles <= table.head_dim,
        "{} with {} positions, {} angles of {}", to_string(x.shape()), rows, angles,
        table.head_dim);
  const int64_t heads = x.shape()[1];
  const int64_t width = x.shape()[2];
  grow(floats_, 2 * rows * angles);
  float* values = x.as<float>().data();
  for_range(rows, heads * width + 16 * angles, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* cosines = floats_.data() + 2 * t * angles;
      float* sines = cosines + angles;
      const auto position = static_cast<float>(positions[static_cast<size_t>(t)]);
      for (int64_t i = 0; i < angles; ++i) {
        const float angle = position * table.frequencies[static_cast<size_t>(i)];
        cosines[i] = std::cos(angle);
        sines[i] = std::sin(angle);
      }
      for (int64_t h = 0; h < heads; ++h) {
        kernels_.rotate(values + (t * heads + h) * width, cosines, sines, angles, width / 2);
      }
    }
  });
}

void CpuBackend::activate(TensorView out,
                          TensorView gate,
                          TensorView up,
                          const Activation& activation) {
  check_same(out, up);
  const bool gated = activation.gating == Gating::kGated;
  CHECK(gate.empty() != gated, "activation {} with gate {}", to_string(activation),
        to_string(gate.shape()));
  if (gated) check_same(gate, up);
  float* to = out.as<float>().data();
  const float* ups = up.as<float>().data();
  const float* gates = gated ? gate.as<float>().data() : ups;
  for_range(up.elements(), kExpCost, [&](int64_t begin, int64_t end) {
    kernels_.activate(to + begin, gates + begin, ups + begin, end - begin, activation);
  });
}

void CpuBackend::add(TensorView x, TensorView y) {
  check_same(x, y);
  float* to = x.as<float>().data();
  const float* from = y.as<float>().data();
  for_range(x.elements(), 1, [&](int64_t begin, int64_t end) {
    kernels_.add(to + begin, from + begin, end - begin);
  });
}

void CpuBackend::scale(TensorView x, float factor) {
  float* values = x.as<float>().data();
  for_range(x.elements(), 1, [&](int64_t begin, int64_t end) {
    kernels_.scale(values + begin, factor, end - begin);
  });
}

void CpuBackend::soft_cap(TensorView x, float cap) {
  float* values = x.as<float>().data();
  for_range(x.elements(), kExpCost, [&](int64_t begin, int64_t end) {
    kernels_.soft_cap(values + begin, cap, end - begin);
  });
}

void CpuBackend::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  CHECK(x.shape().rank() == 2 &&
            out.shape() == (Shape{static_cast<int64_t>(rows.size()), x.shape()[1]}),
        "{} from {} of {}", to_string(out.shape()), rows.size(), to_string(x.shape()));
  for (const int32_t row : rows) CHECK(row >= 0 && row < x.rows(), "row {} of {}", row, x.rows());
  const int64_t width = x.shape()[1];
  float* to = out.as<float>().data();
  const float* from = x.as<float>().data();
  for_range(out.rows(), width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(to + i * width, from + rows[static_cast<size_t>(i)] * width,
                  static_cast<size_t>(width) * sizeof(float));
    }
  });
}

}  // namespace facet::cpu
