#pragma once

// All decoder layers of a few tokens, from embeddings to logits, in one launch: a CTA for each
// multiprocessor, all of them under way at once, which tell each other the results of a layer's
// parts (few_tokens_words.cuh).
//
//   stream settled, its norm | q, k, v
//   attention over a CTA's positions
//   join of all positions
//   o
//   stream settled, its norms | gate and up, the router's logits
//   gate and up of the chosen experts, dense down
//   down of the chosen experts
//
// Behind the last layer, where all rows' logits are wanted:
//
//   stream settled, its norm | the head, soft cap
//
// Separate kernels lose more time at their ends and beginnings than to memory. Here every worker
// warp has a ring whose copies run ahead over all waits (few_tokens_ring.cuh): what a part reads is
// mostly there when its x is. A helper warp has the CTA's share of the router.
//
// Of one token every CTA has a stream of its own, settles it for itself, and has its helper choose
// the experts while the workers are still at gate and up. Several tokens are columns of the
// products, which have eight: one CTA settles the stream of each and tells all others its norms
// (few_tokens_norm.cuh), a worker warp a token chooses its experts, and those that any of them
// chose are one list (few_tokens_experts.cuh). Every CTA has some positions of each.
//
//   scratch  of the part: x as BF16 in the format's order; attention's q and scores

#include "kernels/cuda/few_tokens_experts.cuh"
#include "kernels/cuda/few_tokens_feeder.cuh"

namespace facet::cuda {

/// What the workers do.
template <int T>
class TokenWorker : public TokenExperts<T> {
  using Base = TokenExperts<T>;
  using Sizes = TokenSizes<T>;

 public:
  __device__ __forceinline__ TokenWorker(const FewTokensArgs& args, TokenShared<T>& shared)
      : Base(args, shared) {}

  __device__ __forceinline__ void run() {
    const float root = router_root(kTokenHidden);
    for (int index = 0; index < args_.count; ++index) {
      const FewTokensLayer& layer = tables_.layers[index % 2];
      const FewTokensLayer* before = index > 0 ? &tables_.layers[(index + 1) % 2] : nullptr;
      const uint32_t number = first_ + index;
      // One after the other through the same instructions, which then are at hand.
#pragma unroll 1
      for (int i = static_cast<int>(TokenPart::kQkv); i < static_cast<int>(TokenPart::kExpertsDown);
           ++i) {
        const auto part = static_cast<TokenPart>(i);
        if (part == TokenPart::kCache || part == TokenPart::kExperts) continue;
        if (part == TokenPart::kQkv) {
          enter(before, layer.input_norm, number);
          if (before != nullptr) arrive_all<kLayerDone>();
        } else if (part == TokenPart::kGateUp) {
          enter_feed_forward(layer, number, root);
        } else if (part == TokenPart::kDown) {  // meanwhile other CTAs tell what it reads
          this->choose(layer, number);
          this->experts(layer, number);
          this->stage(args_.rooms.inner, args_.dense_width, 1, 0, number);
        } else if (kRounds == 1) {
          const FewTokensKind& kind = args_.kinds[layer.kind];
          this->stage(args_.rooms.attended, kind.q_heads * kind.head_dim, 1, 0, number);
        } else {
          this->multiply_rounds(layer, number);
          continue;
        }
        sync_workers();
        this->multiply(layer, part, number);
        if (part == TokenPart::kQkv) attend(layer, number);
      }
      this->experts_down(layer, number);
    }
    if (!has_head(args_)) return leave();
    enter(&tables_.layers[(args_.count - 1) % 2], args_.head.norm, first_ + args_.count);
    sync_workers();
    this->multiply_head();
  }

 private:
  using Base::args_;
  using Base::first_;
  using Base::kRounds;
  using Base::ring_;
  using Base::shared_;
  using Base::tables_;

  /// scratch = what a layer reads, or the head: norms of the streams, to which what the layer
  /// before left pending is added.
  __device__ __forceinline__ void enter(const FewTokensLayer* before,
                                        const float* norm,
                                        uint32_t number) {
    if (T == 1 || own_token<T>() < tokens_of<T>(args_))
      enter_layer<T>(args_, before, norm, number, own_weights(), shared_.norm_parts,
                     shared_.scratch);
    if (T > 1) this->stage(args_.rooms.input, kTokenHidden, 1, 0, number);
  }
  /// The streams with attention's branch added; what the dense branch reads, the experts, and the
  /// router.
  __device__ __forceinline__ void enter_feed_forward(const FewTokensLayer& layer,
                                                     uint32_t number,
                                                     float root) const {
    constexpr int kTogether = Sizes::kTogether;
    const TokenElements at;
    TokenBranchNorms norms;
    const auto store = [&](int token, const TokenValues& x, float inverse) {
      uint8_t* dense = shared_.scratch + token * Sizes::row_bytes(kTokenHidden);
      norms.store(at, x, inverse, root, dense, dense + Sizes::kExpertsX,
                  reinterpret_cast<float*>(shared_.scratch + Sizes::kRouterZ) +
                      token % kTogether * kTokenHidden);
    };
    if constexpr (T == 1) {
      norms.load(at, layer);
      TokenValues x;
      const float inverse = settle_attention<T>(args_, layer, number, shared_.norm_parts, at, x);
      store(0, x, inverse);
      arrive_all<kZIsThere>();
    } else {
      if (own_token<T>() < tokens_of<T>(args_)) {
        TokenValues x;
        const float inverse = settle_attention<T>(args_, layer, number, shared_.norm_parts, at, x);
        uint2* to = args_.rooms.between + own_token<T>() * kTokenHidden;
#pragma unroll
        for (int k = 0; k < kTokenPer; ++k)
          if (at.has(k)) tell(to + at(k), __fmul_rn(x.v[k], inverse), number);
      }
      norms.load(at, layer);
#pragma unroll 1
      for (int base = 0; base < tokens_of<T>(args_); base += kTogether) {
        TokenValues x[kTogether];
        hear<kTogether * kTokenPer>(
            number,
            [&](int i) {
              return args_.rooms.between +
                     min(base + i / kTokenPer, tokens_of<T>(args_) - 1) * kTokenHidden +
                     at.near(i % kTokenPer);
            },
            [&](int i, uint32_t value) {
              x[i / kTokenPer].v[i % kTokenPer] = __uint_as_float(value);
            });
        if (base == 0) {
          sync_workers();  // nobody reads there any more
        } else {
          bar_sync<kZWasRead, kWithHelper>();
        }
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          if (base + i < tokens_of<T>(args_)) store(base + i, x[i], 1.0F);
        arrive_all<kZIsThere>();
      }
    }
  }
  /// The streams as the last layer leaves them, and what of `sparse` is not there yet.
  __device__ __forceinline__ void leave() const {
    if (T == 1 ? blockIdx.x > 0 : own_token<T>() >= tokens_of<T>(args_)) return;
    const TokenElements at;
    const int64_t row = int64_t{own_token<T>()} * kTokenHidden;
    TokenValues x;
    x.load(at, own_stream<T>(args_));
    x.store(at, args_.x + row);
    if constexpr (T > 1) {
      add_spread(at, args_, own_token<T>(), first_ + args_.count - 1, own_weights(), x);
#pragma unroll
      for (int k = 0; k < kTokenPer; ++k)
        if (at.has(k) && at(k) >= TokenSpread().first_row())
          __stcg(args_.sparse + row + at(k), x.v[k]);
    }
  }
  /// Of the experts that the CTA's token chose.
  __device__ __forceinline__ const float* own_weights() const {
    return tables_.choice.weights[T == 1 ? 0 : min(own_token<T>(), T - 1)];
  }

  /// Attention, with its join.
  __device__ __forceinline__ void attend(const FewTokensLayer& layer, uint32_t number) {
    if constexpr (T == 1) {
      if (tables_.tasks[layer.kind][0].parts > 0)
        attend_part(args_, tables_, layer, shared_.rotation, number, shared_.rings, ring_,
                    shared_.scratch);
    } else {
      sync_workers();  // nobody reads x any more
      TokenAttend<T>(args_, tables_, layer, shared_.rotation, number, shared_.rings, ring_,
                     shared_.scratch)
          .run();
    }
    join_token<T>(args_, tables_, layer, number, shared_.scratch);
  }
};

template <int T>
__global__ void __launch_bounds__(kTokenThreads, 1)
    few_tokens_kernel(const __grid_constant__ FewTokensArgs args) {
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& shared = *reinterpret_cast<TokenShared<T>*>(memory);
  TokenTables<T>& tables = shared.tables;
  constexpr int kKinds = FewTokensArgs::kKinds;
  constexpr int kWords = sizeof(FewTokensLayer) / 16;
  const auto thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < min(args.count, 2) * kWords; i += kTokenThreads)
    reinterpret_cast<uint4*>(tables.layers)[i] = reinterpret_cast<const uint4*>(args.layers)[i];
  shared.rings.init(thread);
  if (thread == 0) tables.choice.known = 0;
  if (T == 1) {  // one token's experts are the list
    if (thread == 0) tables.choice.count = args.top_k;
    if (thread < kTokenExperts) tables.choice.pair_of[thread][0] = static_cast<uint8_t>(thread);
  }
  if (thread < kKinds * T && thread % T < tokens_of<T>(args) && args.kinds[thread / T].head_dim > 0)
    find_task(args, thread / T, thread % T, tables.tasks[thread / T][thread % T]);
  constexpr int kDeals = kKinds * kTokenParts * kTokenGroups;
  static_assert(kDeals <= kTokenThreads);
  if (thread < kDeals) {
    const int group = thread % kTokenGroups;
    const int part = thread / kTokenGroups % kTokenParts;
    const int kind = thread / kTokenGroups / kTokenParts;
    tables.deals[kind][part][group] =
        deal_part(args, args.kinds[kind], static_cast<TokenPart>(part), group);
  }
  __syncthreads();
#pragma unroll 1
  for (int i = 0; i < kKinds * tokens_of<T>(args); ++i) {
    const int kind = i / tokens_of<T>(args);
    const int token = i % tokens_of<T>(args);
    if (args.kinds[kind].head_dim == 0) continue;
    find_kv_rows(args, kind, token, tables.tasks[kind][token], tables.kv_rows[kind][token]);
    find_rotation<T>(args, kind, token, shared.rotation);
  }
  __syncthreads();
  const int warp = token_warp();
  if (warp == kHelper) return help<T>(args, shared);
  if (warp >= kFirstFeeder)
    return TokenFeeder<T>(args, tables, shared.rings, warp - kFirstFeeder).run();
  TokenWorker<T>(args, shared).run();
  sync_workers();
  if (threadIdx.x == 0) args.done[blockIdx.x] += args.count + (has_head(args) ? 1 : 0);
}

template <int T>
void launch_few_tokens(cudaStream_t stream, const FewTokensArgs& args) {
  static_assert(sizeof(TokenShared<T>) <= kTokenSharedBytes);
  const LaunchShape shape = {.grid = dim3(grid(multiprocessors())),
                             .threads = kTokenThreads,
                             .shared_bytes = sizeof(TokenShared<T>),
                             .together = true,
                             .traffic = {args.bytes, args.expert_bytes}};
  const char* name = has_head(args) ? "all layers of a step, logits" : "all layers of a step";
  launch(stream, Overlap::kNo, shape, name, few_tokens_kernel<T>, args);
}

}  // namespace facet::cuda
