// The ops on the residual stream: operands checked and translated, one launcher called.

#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/operands.h"

namespace facet::cuda {

ResidualArgs CudaBackend::residual_args(const ResidualStream& stream, float eps) const {
  const Shape& shape = stream.x.shape();
  CHECK(shape.rank() == 2, "the stream is {}, not [T, H]", to_string(shape));
  const PendingBranch& pending = stream.pending;
  const auto vector = [&](std::span<const float> weight, const char* name) {
    CHECK(std::ssize(weight) == shape[1], "{}: {} weights for {}", name, weight.size(),
          to_string(shape));
    return weights_.find(weight, name);
  };
  ResidualArgs args;
  args.x = values(stream.x, "x");
  args.x_out = values(stream.spare, shape, "spare");
  args.eps = eps;
  args.width = static_cast<int32_t>(shape[1]);
  if (pending.branch.empty()) return args;
  args.branch = values(pending.branch, shape, "branch");
  args.norm = vector(pending.weight, "weight");
  args.factor = pending.factor;
  if (pending.sparse.empty()) return args;
  args.sparse = values(pending.sparse, shape, "sparse");
  args.branch_norm = vector(pending.branch_norm, "branch_norm");
  args.sparse_norm = vector(pending.sparse_norm, "sparse_norm");
  return args;
}

NormedStream CudaBackend::normed_stream(const ResidualStream& stream,
                                        TensorView h,
                                        std::span<const float> weight,
                                        float eps) {
  const Shape& shape = stream.x.shape();
  CHECK(std::ssize(weight) == shape[1], "{} weights for {}", weight.size(), to_string(shape));
  NormedStream x;
  x.stream = residual_args(stream, eps);
  x.norm = weights_.find(weight, "norm");
  x.h = values(h, shape, "h");
  x.rows = shape[0];
  x.workspace = workspace(linear_, linear_workspace_bytes(shape[0], shape[1]));
  x.overlap = Overlap::kYes;
  return x;
}

void CudaBackend::settle(ResidualStream& stream, float eps) {
  if (stream.pending.branch.empty()) return;
  if (stream.x.shape()[1] > kWidestRow) return Backend::settle(stream, eps);
  ResidualArgs args = residual_args(stream, eps);
  args.x_out = values(stream.x, "x");
  cuda::settle(stream_, args, {}, {}, stream.x.rows());
  stream.pending = {};
}

void CudaBackend::norm_stream(ResidualStream& stream,
                              TensorView out,
                              std::span<const float> weight,
                              float eps) {
  if (stream.x.shape()[1] > kWidestRow) return Backend::norm_stream(stream, out, weight, eps);
  NormedStream x = normed_stream(stream, out, weight, eps);
  x.stream.x_out = values(stream.x, "x");
  cuda::settle(stream_, x.stream, {x.h, x.norm}, {}, x.rows);
  stream.pending = {};
}

void CudaBackend::project(ResidualStream& stream,
                          TensorView h,
                          std::span<const float> weight,
                          std::span<const Projection> products,
                          float eps) {
  if (stream.x.shape()[1] > kWidestRow) return Backend::project(stream, h, weight, products, eps);
  const NormedStream x = normed_stream(stream, h, weight, eps);
  std::vector<LinearOutput> outputs;
  for (const Projection& product : products) {
    const WeightMatrix& w = product.w;
    CHECK(w.cols == x.stream.width, "[{}, {}] for {}", w.rows, w.cols, to_string(stream.x.shape()));
    outputs.push_back({linear_weights(w), values(product.out, {x.rows, w.rows}, "out")});
  }
  if (cuda::project(stream_, x, outputs)) std::swap(stream.x, stream.spare);
  stream.pending = {};
}

namespace {

bool choose_themselves(const LoadedExperts& experts, const RouteArgs& route) {
  return experts.layer.experts != nullptr &&
         experts_choose(experts.layer, static_cast<int32_t>(route.rows),
                        static_cast<int32_t>(route.top_k));
}

}  // namespace

void CudaBackend::enter_feed_forward(ResidualStream& stream,
                                     const FeedForwardRows& rows,
                                     const FeedForward& layer,
                                     float eps) {
  const bool gated = layer.activation.gating == Gating::kGated;
  if (stream.x.shape()[1] > kWidestRow || !gated)
    return Backend::enter_feed_forward(stream, rows, layer, eps);
  const Shape inner = {stream.x.rows(), layer.up.rows};
  CHECK(layer.gate.rows == layer.up.rows && layer.gate.cols == layer.up.cols &&
            layer.up.cols == stream.x.shape()[1],
        "gate [{}, {}], up [{}, {}] for {}", layer.gate.rows, layer.gate.cols, layer.up.rows,
        layer.up.cols, to_string(stream.x.shape()));
  EnterArgs args;
  args.x = normed_stream(stream, rows.h, layer.norm, eps);
  args.gate = linear_weights(layer.gate);
  args.up = linear_weights(layer.up);
  args.gate_room = values(rows.gate, inner, "gate");
  args.inner = values(rows.inner, inner, "inner");
  args.function = layer.activation.function;
  RouteArgs route;
  if (layer.experts != nullptr) {
    route = route_args(rows.routing, stream.x, layer.router, eps);
    args.route = &route;
    args.sparse = {values(rows.experts_in, stream.x.shape(), "experts_in"),
                   weights_.find(layer.experts_norm, "experts_norm")};
    late_choice_ = {};
    args.leaves_choice = unwatched_step_ && choose_themselves(weights_.find(*layer.experts), route);
    if (args.leaves_choice)
      late_choice_ = {route.logits, route.per_expert_scale, route.experts, route.weights};
    // With two rows and more, experts that begin early were in the way of what they wait for.
    if (args.leaves_choice && route.rows == 1)
      args.routed = reinterpret_cast<int32_t*>(experts_arrivals_.data()) + kExpertArrivals;
  }
  if (cuda::enter_feed_forward(stream_, args)) {
    std::swap(stream.x, stream.spare);
    late_choice_.routed = args.routed;
    if (args.routed != nullptr) late_choice_.routers = router_blocks(*args.route);
  }
  stream.pending = {};
}

void CudaBackend::leave_feed_forward(const FeedForwardRows& rows, const FeedForward& layer) {
  const LinearArgs dense = linear_args(rows.dense, rows.inner, layer.down);
  if (layer.experts == nullptr) return cuda::linear(stream_, dense);
  run_experts(
      weights_.find(*layer.experts),
      experts_args(rows.sparse, rows.experts_in, *layer.experts, rows.routing, layer.activation),
      &dense, std::exchange(late_choice_, {}));
}

}  // namespace facet::cuda
