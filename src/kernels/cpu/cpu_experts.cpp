// Routing, and the products of the routed experts: pairs of a row and an expert are put in the
// order of the experts, so that each expert's weights are read once for all its rows.

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/work.h"

namespace facet::cpu {
namespace {

/// Rows of one pass of experts(): bounds the scratch.
constexpr int64_t kExpertRows = 512;

/// The top_k largest of p[0 .. E), equal ones by lower index, and their renormalised weights.
/// Overwrites p.
void choose_experts(std::span<float> p,
                    std::span<const float> per_expert_scale,
                    std::span<int32_t> experts,
                    std::span<float> weights) {
  constexpr float kTaken = -1.0F;
  float total = 0.0F;
  for (size_t k = 0; k < experts.size(); ++k) {
    size_t best = p.size();
    for (size_t e = 0; e < p.size(); ++e) {
      if (p[e] == kTaken) continue;
      if (best == p.size() || p[e] > p[best]) best = e;
    }
    experts[k] = static_cast<int32_t>(best);
    weights[k] = p[best];
    total += p[best];
    p[best] = kTaken;
  }
  for (size_t k = 0; k < experts.size(); ++k) {
    weights[k] = weights[k] / total * per_expert_scale[static_cast<size_t>(experts[k])];
  }
}

void check_matrix(const WeightMatrix& w, int64_t rows, int64_t cols, size_t expert) {
  CHECK(!w.empty() && w.rows == rows && w.cols == cols,
        "a matrix of expert {} is [{}, {}], wants [{}, {}]", expert, w.rows, w.cols, rows, cols);
}

}  // namespace

void CpuBackend::route(const Routing& routing,
                       TensorView x,
                       const RouterWeightsView& router,
                       float eps) {
  const int64_t rows = x.rows();
  const int64_t hidden = router.proj.cols;
  const int64_t count = router.proj.rows;
  CHECK(x.shape() == (Shape{rows, hidden}) && routing.experts.shape().rank() == 2 &&
            routing.experts.rows() == rows && routing.experts.shape() == routing.weights.shape() &&
            static_cast<int64_t>(router.scale.size()) == hidden &&
            static_cast<int64_t>(router.per_expert_scale.size()) == count,
        "{} by a router of [{}, {}] into {}", to_string(x.shape()), count, hidden,
        to_string(routing.experts.shape()));
  const int64_t top_k = routing.experts.shape()[1];
  CHECK(top_k > 0 && top_k <= count, "top {} of {}", top_k, count);

  grow(floats_, rows * (hidden + count));
  float* z = floats_.data();
  float* logits = z + rows * hidden;
  const auto root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(hidden)));
  const float* values = x.as<float>().data();
  for_range(rows, hidden, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = z + t * hidden;
      kernels_.rms_norm(row, values + t * hidden, nullptr, hidden, eps);
      kernels_.multiply(row, row, router.scale.data(), root, hidden);
    }
  });
  fill_rows(z, hidden, logits, count, rows);
  linear_rows(router.proj, x_rows_, out_rows_);

  const auto size = static_cast<size_t>(top_k);
  const std::span<int32_t> experts = routing.experts.as<int32_t>();
  const std::span<float> weights = routing.weights.as<float>();
  for_range(rows, count * (top_k + 8), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const std::span p(logits + t * count, static_cast<size_t>(count));
      kernels_.softmax(p.data(), count);
      const auto first = static_cast<size_t>(t) * size;
      choose_experts(p, router.per_expert_scale, experts.subspan(first, size),
                     weights.subspan(first, size));
    }
  });
}

void CpuBackend::experts(TensorView out,
                         TensorView x,
                         const ExpertWeights& weights,
                         const Routing& routing,
                         const Activation& activation) {
  CHECK(!weights.empty() && x.shape().rank() == 2 && out.shape() == x.shape() &&
            routing.experts.shape().rank() == 2 && routing.experts.rows() == x.rows() &&
            routing.experts.shape() == routing.weights.shape(),
        "{} from {}, {} experts routed by {}", to_string(out.shape()), to_string(x.shape()),
        weights.count(), to_string(routing.experts.shape()));
  const std::span<const int32_t> chosen = routing.experts.as<int32_t>();
  for (const int32_t e : chosen) CHECK(e >= 0 && e < weights.count(), "expert {}", e);
  const int64_t top_k = routing.experts.shape()[1];
  const int64_t hidden = x.shape()[1];
  for (int64_t first = 0; first < x.rows(); first += kExpertRows) {
    experts_chunk({.out = out.as<float>().data() + first * hidden,
                   .x = x.as<float>().data() + first * hidden,
                   .weights = &weights,
                   .experts = chosen.data() + first * top_k,
                   .expert_weights = routing.weights.as<float>().data() + first * top_k,
                   .rows = std::min(kExpertRows, x.rows() - first),
                   .top_k = top_k,
                   .hidden = hidden,
                   .inner = weights.experts.front().up.rows,
                   .activation = activation});
  }
}

void CpuBackend::experts_chunk(const ExpertCall& call) {
  group_by_expert(call);
  expert_inner(call);
  expert_down(call);
  expert_combine(call);
}

void CpuBackend::group_by_expert(const ExpertCall& call) {
  const auto pairs = static_cast<size_t>(call.pairs());
  const auto count = static_cast<size_t>(call.weights->count());
  expert_offsets_.assign(count + 1, 0);
  for (size_t i = 0; i < pairs; ++i) ++expert_offsets_[static_cast<size_t>(call.experts[i]) + 1];
  active_experts_.clear();
  for (size_t e = 0; e < count; ++e) {
    if (expert_offsets_[e + 1] > 0) active_experts_.push_back(static_cast<int32_t>(e));
    expert_offsets_[e + 1] += expert_offsets_[e];
  }
  const bool gated = call.activation.gating == Gating::kGated;
  for (const int32_t active : active_experts_) {
    const auto e = static_cast<size_t>(active);
    const ExpertMatrices& matrices = call.weights->experts[e];
    check_matrix(matrices.up, call.inner, call.hidden, e);
    check_matrix(matrices.down, call.hidden, call.inner, e);
    if (gated) check_matrix(matrices.gate, call.inner, call.hidden, e);
  }

  pair_places_.resize(pairs);
  std::vector<int32_t>& next = expert_next_;
  next.assign(expert_offsets_.begin(), expert_offsets_.end() - 1);
  for (size_t i = 0; i < pairs; ++i) {
    pair_places_[i] = next[static_cast<size_t>(call.experts[i])]++;
  }

  grow(inner_floats_, call.pairs() * call.inner * (gated ? 2 : 1));
  grow(down_floats_, call.pairs() * call.hidden);
  up_rows_.resize(pairs);
  gate_rows_.resize(pairs);
  inner_rows_.resize(pairs);
  down_rows_.resize(pairs);
  for (int64_t i = 0; i < call.pairs(); ++i) {
    const auto pair = static_cast<size_t>(i);
    up_rows_[pair] = inner_floats_.data() + i * call.inner;
    gate_rows_[pair] = up_rows_[pair] + (gated ? call.pairs() * call.inner : 0);
    inner_rows_[pair] = up_rows_[pair];
    down_rows_[pair] = down_floats_.data() + i * call.hidden;
  }
}

template <typename Body>
void CpuBackend::for_expert_rows(const ExpertCall& call,
                                 int64_t rows,
                                 int64_t cols,
                                 const Body& body) {
  const auto active = static_cast<int64_t>(active_experts_.size());
  const int64_t tile = rows_per_piece(active * rows, cols,
                                      call.pairs() / std::max<int64_t>(1, active), pool_.threads());
  const int64_t tiles = (rows + tile - 1) / tile;
  pool_.parallel_for(active * tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const auto e = static_cast<size_t>(active_experts_[static_cast<size_t>(item / tiles)]);
      const auto first = static_cast<size_t>(expert_offsets_[e]);
      const size_t pairs = static_cast<size_t>(expert_offsets_[e + 1]) - first;
      const int64_t row = item % tiles * tile;
      body(call.weights->experts[e], first, pairs, row, std::min(row + tile, rows));
    }
  });
}

bool CpuBackend::some_want(const ExpertCall& call, XOrder order, bool down) const {
  return std::any_of(active_experts_.begin(), active_experts_.end(), [&](int32_t e) {
    const ExpertMatrices& w = call.weights->experts[static_cast<size_t>(e)];
    if (down) return x_order(w.down) == order;
    return x_order(w.up) == order || (!w.gate.empty() && x_order(w.gate) == order);
  });
}

void CpuBackend::expert_linear(const WeightMatrix& w,
                               int64_t begin,
                               int64_t end,
                               size_t first,
                               std::span<float* const> out) const {
  const std::span x = pair_rows_[static_cast<size_t>(x_order(w))];
  kernels_.linear({&w, begin, end, x.subspan(first, out.size()), out});
}

void CpuBackend::expert_inner(const ExpertCall& call) {
  // A row is arranged once for all its experts.
  token_rows_.resize(static_cast<size_t>(call.rows));
  for (int64_t t = 0; t < call.rows; ++t) {
    token_rows_[static_cast<size_t>(t)] = call.x + t * call.hidden;
  }
  for (const XOrder order : {XOrder::kColumns, XOrder::kNibbles}) {
    if (!some_want(call, order, false)) continue;
    const std::span<const float* const> x = arrange_rows(order, token_rows_, call.hidden);
    std::vector<const float*>& pairs = pair_rows_[static_cast<size_t>(order)];
    pairs.resize(pair_places_.size());
    for (size_t i = 0; i < pair_places_.size(); ++i) {
      pairs[static_cast<size_t>(pair_places_[i])] = x[i / static_cast<size_t>(call.top_k)];
    }
  }
  const bool gated = call.activation.gating == Gating::kGated;
  for_expert_rows(
      call, call.inner, call.hidden,
      [&](const ExpertMatrices& w, size_t first, size_t pairs, int64_t begin, int64_t end) {
        const std::span up = std::span(up_rows_).subspan(first, pairs);
        const std::span gate = std::span(gate_rows_).subspan(first, pairs);
        if (gated) expert_linear(w.gate, begin, end, first, gate);
        expert_linear(w.up, begin, end, first, up);
        for (size_t i = 0; i < pairs; ++i) {
          kernels_.activate(up[i] + begin, gate[i] + begin, up[i] + begin, end - begin,
                            call.activation);
        }
      });
}

void CpuBackend::expert_down(const ExpertCall& call) {
  for (const XOrder order : {XOrder::kColumns, XOrder::kNibbles}) {
    if (!some_want(call, order, true)) continue;
    const std::span<const float* const> x = arrange_rows(order, inner_rows_, call.inner);
    pair_rows_[static_cast<size_t>(order)].assign(x.begin(), x.end());
  }
  for_expert_rows(
      call, call.hidden, call.inner,
      [&](const ExpertMatrices& w, size_t first, size_t pairs, int64_t begin, int64_t end) {
        expert_linear(w.down, begin, end, first, std::span(down_rows_).subspan(first, pairs));
      });
}

void CpuBackend::expert_combine(const ExpertCall& call) {
  for_range(call.rows, call.top_k * call.hidden, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* out = call.out + t * call.hidden;
      std::fill(out, out + call.hidden, 0.0F);
      for (int64_t i = t * call.top_k; i < (t + 1) * call.top_k; ++i) {
        const auto place = static_cast<size_t>(pair_places_[static_cast<size_t>(i)]);
        kernels_.blend(out, 1.0F, down_rows_[place], call.expert_weights[i], call.hidden);
      }
    }
  });
}

}  // namespace facet::cpu
