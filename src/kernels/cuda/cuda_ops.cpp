// Each op: operands checked and translated, one launcher called.

#include <algorithm>
#include <bit>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/experts_simple.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/operands.h"
#include "kernels/cuda/prepare_attention.h"

namespace facet::cuda {
namespace {

int64_t last_extent(const Shape& shape) {
  CHECK(shape.rank() > 0, "a scalar has no last axis");
  return shape[shape.rank() - 1];
}

/// Positions that rows of a sequence see, each once; window 0: all.
int64_t positions_seen(const SequenceRows& s, int32_t window) {
  const int64_t end = int64_t{s.first_position} + s.rows;
  return window == 0 ? end : std::min<int64_t>(end, s.rows + window - 1);
}

/// The rows of a step: each sequence with several by itself, those with one together. `longest` is
/// a bound of their positions: a power of two, for launches that are repeated as they grow.
std::vector<RowRun> runs_of(const Batch& batch, int32_t longest, int32_t window) {
  const auto bound = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(longest)));
  std::vector<RowRun> runs;
  for (const SequenceRows& s : batch.sequences) {
    const bool joins = s.rows == 1 && !runs.empty() && !runs.back().one_sequence &&
                       runs.back().first_row + runs.back().rows == s.first_row;
    if (joins) {
      ++runs.back().rows;
      runs.back().positions += positions_seen(s, window);
    } else {
      const bool one = s.rows > 1;
      runs.push_back({s.first_row, s.rows, one, one ? s.first_position + s.rows : bound,
                      positions_seen(s, window)});
    }
  }
  return runs;
}

}  // namespace

void CudaBackend::embed(TensorView out,
                        const WeightMatrix& table,
                        std::span<const int32_t> ids,
                        float scale) {
  const Shape shape = {std::ssize(ids), table.cols};
  cuda::embed(stream_, values(out, shape, "out"), table, arena_.find(ids, "embed"), std::ssize(ids),
              scale);
}

void CudaBackend::rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) {
  const int64_t width = last_extent(x.shape());
  CHECK(weight.empty() || std::ssize(weight) == width, "{} weights for {}", weight.size(),
        to_string(x.shape()));
  cuda::rms_norm(stream_, values(out, x.shape(), "out"), values(x, "x"),
                 weights_.find(weight, "rms_norm"), width == 0 ? 0 : x.elements() / width, width,
                 eps);
}

LinearWeights CudaBackend::linear_weights(const WeightMatrix& w) const {
  const ProductForm form = plan_linear(kernels_.setup(), query_of(w)).form;
  if (form != ProductForm::kFp4) return {w, weights_.find_tiles(w), form, {}};
  const Fp4Operand operand = weights_.find_fp4(w);
  CHECK(operand.scales != nullptr, "an NVFP4 matrix [{}, {}] that was not loaded", w.rows, w.cols);
  return {w, nullptr, form, operand};
}

LinearArgs CudaBackend::linear_args(TensorView out, TensorView x, const WeightMatrix& w) {
  LinearArgs args;
  args.rows = x.rows();
  args.out = values(out, {args.rows, w.rows}, "out");
  args.x = values(x, {args.rows, w.cols}, "x");
  args.w = linear_weights(w);
  args.workspace = workspace(linear_, linear_workspace_bytes(args.rows, w.cols));
  args.overlap = Overlap::kYes;
  return args;
}

void CudaBackend::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  cuda::linear(stream_, linear_args(out, x, w));
}

void CudaBackend::rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) {
  CHECK(x.shape().rank() == 3, "x is {}, not [T, heads, D]", to_string(x.shape()));
  const auto angles = static_cast<int32_t>(table.frequencies.size());
  CHECK(table.head_dim % 2 == 0 && angles <= table.head_dim / 2, "{} angles for a head of {}",
        angles, table.head_dim);
  const Shape shape = {std::ssize(positions), x.shape()[1], table.head_dim};
  cuda::rope(stream_, values(x, shape, "x"), arena_.find(positions, "rope"),
             weights_.find(table.frequencies, "rope"), shape[0], shape[1], table.head_dim, angles);
}

PagedKv CudaBackend::paged(const KvView& kv, const Batch& batch) const {
  const StepTables tables = arena_.tables(kv);
  return {kv.k,
          kv.v,
          kv.layout.dtype,
          kv.k_scale,
          kv.v_scale,
          kv.layout.kv_heads,
          kv.layout.head_dim,
          kv.layout.page_size,
          arena_.find(batch.positions, "positions"),
          arena_.find(batch.sequence_of_row, "sequence_of_row"),
          tables.begin,
          tables.pages};
}

void CudaBackend::store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) {
  const Shape shape = {batch.rows(), kv.layout.kv_heads, kv.layout.head_dim};
  cuda::store_kv(stream_, paged(kv, batch), values(k, shape, "k"), values(v, shape, "v"),
                 batch.rows());
}

AttentionArgs CudaBackend::attention_args(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) const {
  CHECK(q.shape().rank() == 3 && window >= 0, "q {}, window {}", to_string(q.shape()), window);
  const auto heads = static_cast<int32_t>(q.shape()[1]);
  CHECK(heads % kv.layout.kv_heads == 0, "{} query heads on {} KV heads", heads,
        kv.layout.kv_heads);
  CHECK(kv.layout.head_dim <= kMostHeadDim, "heads of {}", kv.layout.head_dim);
  const Shape shape = {batch.rows(), heads, kv.layout.head_dim};
  AttentionArgs args = {values(out, shape, "out"),
                        values(q, shape, "q"),
                        paged(kv, batch),
                        heads,
                        window,
                        batch.rows()};
  for (const SequenceRows& s : batch.sequences) args.positions += positions_seen(s, window);
  args.overlap = Overlap::kYes;
  return args;
}

bool CudaBackend::runs_tiles(const AttentionArgs& args) const {
  const bool tiles = plan_attention_tiles(
      kernels_.setup(), {args.kv.dtype, args.kv.head_dim, args.q_heads, args.kv.kv_heads});
  CHECK(!tiles || tiles_fit(args), "tiles for heads of {}", args.kv.head_dim);
  return tiles;
}

AttentionMemory CudaBackend::attention_memory(const AttentionArgs& args, const RowRun& run) {
  return {workspace(attention_parts_, attention_workspace_bytes(args, run)),
          reinterpret_cast<int32_t*>(attention_arrivals_.data())};
}

void CudaBackend::attention(
    TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) {
  const AttentionArgs args = attention_args(out, q, kv, window, batch);
  if (!runs_tiles(args)) return attention_simple(stream_, args);
  for (const RowRun& run : runs_of(batch, arena_.longest(), window))
    attention_tiles(stream_, args, run, attention_memory(args, run));
}

void CudaBackend::attend(TensorView out,
                         const AttentionRows& rows,
                         const KvView& kv,
                         const RopeTable& rope,
                         int32_t window,
                         const Batch& batch,
                         float eps) {
  const AttentionArgs args = attention_args(out, rows.q, kv, window, batch);
  if (!runs_tiles(args)) return Backend::attend(out, rows, kv, rope, window, batch, eps);
  PrepareArgs prepare = prepare_args(rows, kv, rope, batch, eps);
  const Unprepared unprepared = {prepare.q_norm,      prepare.k,      prepare.v,  prepare.k_norm,
                                 prepare.frequencies, prepare.angles, prepare.eps};
  for (const RowRun& run : runs_of(batch, arena_.longest(), window)) {
    const AttentionMemory memory = attention_memory(args, run);
    if (!run.one_sequence) {
      attention_tiles(stream_, args, run, memory, unprepared);
      continue;
    }
    prepare.first_row = run.first_row;
    prepare.rows = run.rows;
    cuda::prepare_attention(stream_, prepare);
    attention_tiles(stream_, args, run, memory);
  }
}

void CudaBackend::activate(TensorView out,
                           TensorView gate,
                           TensorView up,
                           const Activation& activation) {
  const bool gated = activation.gating == Gating::kGated;
  CHECK(gated != gate.empty(), "{} {} a gate", to_string(activation), gated ? "without" : "with");
  cuda::activate(stream_, values(out, up.shape(), "out"),
                 gated ? values(gate, up.shape(), "gate") : nullptr, values(up, "up"),
                 up.elements(), activation.function);
}

RouteArgs CudaBackend::route_args(const Routing& routing,
                                  TensorView x,
                                  const RouterWeightsView& router,
                                  float eps) {
  const int64_t rows = x.rows();
  const int64_t width = router.proj.cols;
  const int64_t count = router.proj.rows;
  const int64_t top_k = routing.weights.shape()[1];
  CHECK(top_k > 0 && top_k <= std::min(count, kMostChosen) && count <= kMostExperts,
        "top {} of {} experts", top_k, count);
  CHECK(std::ssize(router.scale) == width && std::ssize(router.per_expert_scale) == count,
        "{} scales and {} per-expert scales for [{}, {}]", router.scale.size(),
        router.per_expert_scale.size(), count, width);
  RouteArgs args;
  args.experts = indices(routing.experts, {rows, top_k}, "experts");
  args.weights = values(routing.weights, {rows, top_k}, "weights");
  args.logits =
      reinterpret_cast<float*>(workspace(route_logits_, rows * count * int64_t{sizeof(float)}));
  args.x = values(x, {rows, width}, "x");
  args.proj = router.proj;
  args.scale = weights_.find(router.scale, "route");
  args.per_expert_scale = weights_.find(router.per_expert_scale, "route");
  args.rows = rows;
  args.top_k = top_k;
  args.eps = eps;
  return args;
}

void CudaBackend::route(const Routing& routing,
                        TensorView x,
                        const RouterWeightsView& router,
                        float eps) {
  cuda::route(stream_, route_args(routing, x, router, eps));
}

ExpertsArgs CudaBackend::experts_args(TensorView out,
                                      TensorView x,
                                      const ExpertWeights& weights,
                                      const Routing& routing,
                                      const Activation& activation) const {
  CHECK(x.shape().rank() == 2 && !weights.empty(), "x is {}, {} experts", to_string(x.shape()),
        weights.count());
  const ExpertMatrices& first = weights.experts.front();
  const bool gated = activation.gating == Gating::kGated;
  CHECK(gated != first.gate.empty(), "{} in an expert {} gate", to_string(activation),
        gated ? "without" : "with");
  ExpertsArgs args;
  args.rows = x.rows();
  args.hidden = x.shape()[1];
  args.top_k = routing.weights.shape()[1];
  args.width = first.up.rows;
  args.out = values(out, {args.rows, args.hidden}, "out");
  args.x = values(x, "x");
  args.chosen = indices(routing.experts, {args.rows, args.top_k}, "experts");
  args.weights = values(routing.weights, {args.rows, args.top_k}, "weights");
  args.activation = activation;
  return args;
}

void CudaBackend::experts(TensorView out,
                          TensorView x,
                          const ExpertWeights& weights,
                          const Routing& routing,
                          const Activation& activation) {
  run_experts(weights_.find(weights), experts_args(out, x, weights, routing, activation), nullptr,
              {});
}

void CudaBackend::run_experts(const LoadedExperts& loaded,
                              ExpertsArgs args,
                              const LinearArgs* beside,
                              const ExpertsChoice& choice) {
  CHECK(loaded.activation == args.activation, "experts loaded for {}, asked for {}",
        to_string(loaded.activation), to_string(args.activation));
  if (loaded.layer.experts == nullptr) {
    if (beside != nullptr) cuda::linear(stream_, *beside);
    if (loaded.fp4.experts != nullptr) return run_fp4_experts(loaded.fp4, args);
    args.experts = loaded.plain;
    args.inner = reinterpret_cast<float*>(
        workspace(experts_, args.rows * args.top_k * args.width * int64_t{sizeof(float)}));
    return experts_simple(stream_, args);
  }
  ExpertsCall call;
  call.layer = loaded.layer;
  call.out = args.out;
  call.x = args.x;
  call.chosen = args.chosen;
  call.weights = args.weights;
  call.rows = static_cast<int32_t>(args.rows);
  call.top_k = static_cast<int32_t>(args.top_k);
  call.workspace = workspace(experts_, experts_workspace_bytes(call.layer, call.rows, call.top_k));
  call.overlap = Overlap::kYes;
  call.beside = beside;
  call.arrivals = reinterpret_cast<int32_t*>(experts_arrivals_.data());
  call.choice = choice;
  cuda::experts(stream_, call);
}

void CudaBackend::run_fp4_experts(const Fp4Layer& layer, const ExpertsArgs& args) {
  Fp4ExpertsCall call;
  call.layer = layer;
  call.out = args.out;
  call.x = args.x;
  call.chosen = args.chosen;
  call.weights = args.weights;
  call.rows = static_cast<int32_t>(args.rows);
  call.top_k = static_cast<int32_t>(args.top_k);
  call.workspace = workspace(experts_, fp4_experts_workspace_bytes(layer, call.rows, call.top_k));
  fp4_experts(stream_, call);
}

void CudaBackend::add(TensorView x, TensorView y) {
  cuda::add(stream_, values(x, "x"), values(y, x.shape(), "y"), x.elements());
}

void CudaBackend::scale(TensorView x, float factor) {
  cuda::scale(stream_, values(x, "x"), x.elements(), factor);
}

void CudaBackend::soft_cap(TensorView x, float cap) {
  CHECK(cap > 0, "cap {}", cap);
  cuda::soft_cap(stream_, values(x, "x"), x.elements(), cap);
}

void CudaBackend::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  CHECK(x.shape().rank() == 2, "x is {}, not [T, N]", to_string(x.shape()));
  const int64_t width = x.shape()[1];
  // The step's own first: a vector of it may stand where a model that is gone had a row list.
  const int32_t* list = arena_.find_if_known(rows);
  if (list == nullptr) list = weights_.find_rows(rows, "gather_rows");
  cuda::gather_rows(stream_, values(out, {std::ssize(rows), width}, "out"), values(x, "x"), list,
                    std::ssize(rows), width);
}

PrepareArgs CudaBackend::prepare_args(const AttentionRows& rows,
                                      const KvView& kv,
                                      const RopeTable& rope,
                                      const Batch& batch,
                                      float eps) const {
  const int32_t head_dim = kv.layout.head_dim;
  const Shape q_shape = {batch.rows(), rows.q.shape()[1], head_dim};
  const Shape kv_shape = {batch.rows(), kv.layout.kv_heads, head_dim};
  const bool stores = !rows.k.empty();
  PrepareArgs args;
  args.q = values(rows.q, q_shape, "q");
  args.k = stores ? values(rows.k, kv_shape, "k") : nullptr;
  args.v = stores && !rows.v_is_k ? values(rows.v, kv_shape, "v") : args.k;
  args.q_norm = weights_.find(rows.q_norm, "q_norm");
  args.k_norm = stores ? weights_.find(rows.k_norm, "k_norm") : nullptr;
  args.frequencies = weights_.find(rope.frequencies, "rope");
  args.angles = static_cast<int32_t>(rope.frequencies.size());
  args.kv = paged(kv, batch);
  args.q_heads = static_cast<int32_t>(q_shape[1]);
  args.rows = batch.rows();
  args.eps = eps;
  args.overlap = Overlap::kYes;
  return args;
}

void CudaBackend::prepare_attention(const AttentionRows& rows,
                                    const KvView& kv,
                                    const RopeTable& rope,
                                    const Batch& batch,
                                    float eps) {
  if (!prepare_fits(kv.layout.head_dim))
    return Backend::prepare_attention(rows, kv, rope, batch, eps);
  cuda::prepare_attention(stream_, prepare_args(rows, kv, rope, batch, eps));
}

void CudaBackend::add_rms_norm(
    TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) {
  const int64_t width = last_extent(x.shape());
  CHECK(std::ssize(weight) == width, "{} weights for {}", weight.size(), to_string(x.shape()));
  cuda::add_rms_norm(stream_, values(x, "x"), values(h, x.shape(), "h"),
                     weights_.find(weight, "add_rms_norm"), width == 0 ? 0 : x.elements() / width,
                     width, eps, factor);
}

void CudaBackend::join_branches(TensorView dense,
                                TensorView sparse,
                                std::span<const float> dense_weight,
                                std::span<const float> sparse_weight,
                                float eps) {
  const int64_t width = last_extent(dense.shape());
  CHECK(std::ssize(dense_weight) == width && std::ssize(sparse_weight) == width,
        "{} and {} weights for {}", dense_weight.size(), sparse_weight.size(),
        to_string(dense.shape()));
  cuda::join_branches(stream_, values(dense, "dense"), values(sparse, dense.shape(), "sparse"),
                      weights_.find(dense_weight, "join_branches"),
                      weights_.find(sparse_weight, "join_branches"),
                      width == 0 ? 0 : dense.elements() / width, width, eps);
}

}  // namespace facet::cuda
