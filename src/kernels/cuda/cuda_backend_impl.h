#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/few_tokens.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/prepare_attention.h"
#include "kernels/cuda/route.h"
#include "kernels/cuda/step_arena.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/step_profile.h"
#include "kernels/cuda/weight_store.h"

namespace facet::cuda {

/// Device memory for an op's intermediate results, kept at the largest size that was asked for.
class Workspace {
 public:
  /// At least `bytes`. True in `moved` if it was made anew.
  std::byte* take(int64_t bytes, bool& moved);

 private:
  Buffer memory_;
};

/// Of FewTokensArgs::kinds; null where there is none.
using FewTokensRopes = std::array<const RopeTable*, FewTokensArgs::kKinds>;

/// See make_cuda_backend().
class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options);
  ~CudaBackend() override;

  std::string_view describe() const override { return description_; }
  const Buffer::Allocator& allocator() const override { return device_allocator(); }
  std::optional<DevicePeaks> measure_peaks() override;
  KernelChoice linear_kernel(const WeightMatrix& matrix) const override;
  KernelChoice experts_kernel(const ExpertWeights& experts,
                              const Activation& activation) const override;
  KernelChoice attention_kernel(const AttentionShape& shape) const override;
  std::optional<KernelChoice> step_kernel(const StepQuery& query) const override;

  int64_t load_bytes(const ModelOperands& operands) const override;
  void load(const ModelOperands& operands) override;
  bool begin_step(const StepInputs& inputs) override;
  TensorView end_step(TensorView result) override;
  std::span<const TopLogits> top_logits() const override { return top_; }
  std::span<const int32_t> drawn() const override { return drawn_; }
  TensorView fetch(TensorView rows) override;
  std::optional<KernelProfile> profile(const std::function<void()>& steps) override;

  void embed(TensorView out,
             const WeightMatrix& table,
             std::span<const int32_t> ids,
             float scale) override;
  void rms_norm(TensorView out, TensorView x, std::span<const float> weight, float eps) override;
  void linear(TensorView out, TensorView x, const WeightMatrix& w) override;
  void rope(TensorView x, std::span<const int32_t> positions, const RopeTable& table) override;
  void store_kv(const KvView& kv, TensorView k, TensorView v, const Batch& batch) override;
  void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) override;
  void activate(TensorView out,
                TensorView gate,
                TensorView up,
                const Activation& activation) override;
  void route(const Routing& routing,
             TensorView x,
             const RouterWeightsView& router,
             float eps) override;
  void experts(TensorView out,
               TensorView x,
               const ExpertWeights& weights,
               const Routing& routing,
               const Activation& activation) override;
  void add(TensorView x, TensorView y) override;
  void scale(TensorView x, float factor) override;
  void soft_cap(TensorView x, float cap) override;
  void gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) override;
  void select_top(TensorView logits) override;
  void prepare_attention(const AttentionRows& rows,
                         const KvView& kv,
                         const RopeTable& rope,
                         const Batch& batch,
                         float eps) override;
  void settle(ResidualStream& stream, float eps) override;
  void norm_stream(ResidualStream& stream,
                   TensorView out,
                   std::span<const float> weight,
                   float eps) override;
  void project(ResidualStream& stream,
               TensorView h,
               std::span<const float> weight,
               std::span<const Projection> products,
               float eps) override;
  void enter_feed_forward(ResidualStream& stream,
                          const FeedForwardRows& rows,
                          const FeedForward& layer,
                          float eps) override;
  void leave_feed_forward(const FeedForwardRows& rows, const FeedForward& layer) override;
  void attend(TensorView out,
              const AttentionRows& rows,
              const KvView& kv,
              const RopeTable& rope,
              int32_t window,
              const Batch& batch,
              float eps) override;
  int64_t most_whole_rows() const override {
    return kernels_.setup().wishes.steps == StepWish::kApart ? 0 : kMostTokens;
  }
  Decoded decode(ResidualStream& stream, const Decoder& decoder, const Batch& batch) override;
  void add_rms_norm(
      TensorView x, TensorView h, std::span<const float> weight, float eps, float factor) override;
  void join_branches(TensorView dense,
                     TensorView sparse,
                     std::span<const float> dense_weight,
                     std::span<const float> sparse_weight,
                     float eps) override;

 private:
  LinearWeights linear_weights(const WeightMatrix& w) const;
  void run_fp4_experts(const Fp4Layer& layer, const ExpertsArgs& args);
  void bring(PinnedBuffer& to, const void* from, int64_t bytes);
  void bring_top();
  void run_experts(const LoadedExperts& loaded,
                   ExpertsArgs args,
                   const LinearArgs* beside,
                   const ExpertsChoice& choice);
  LinearArgs linear_args(TensorView out, TensorView x, const WeightMatrix& w);
  ExpertsArgs experts_args(TensorView out,
                           TensorView x,
                           const ExpertWeights& weights,
                           const Routing& routing,
                           const Activation& activation) const;
  RouteArgs route_args(const Routing& routing,
                       TensorView x,
                       const RouterWeightsView& router,
                       float eps);
  ResidualArgs residual_args(const ResidualStream& stream, float eps) const;
  NormedStream normed_stream(const ResidualStream& stream,
                             TensorView h,
                             std::span<const float> weight,
                             float eps);
  PagedKv paged(const KvView& kv, const Batch& batch) const;
  AttentionArgs attention_args(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) const;
  bool runs_tiles(const AttentionArgs& args) const;
  AttentionMemory attention_memory(const AttentionArgs& args, const RowRun& run);
  std::optional<FewTokensLayer> few_tokens_layer(const DecoderLayer& layer,
                                                 const Batch& batch,
                                                 FewTokensArgs& args,
                                                 FewTokensRopes& ropes) const;
  /// Puts tables of all layers and of the head's matrix, or null, on the device and into `args`.
  /// False: they are others than before, while a step is recorded.
  bool few_tokens_tables(std::span<const DecoderLayer> of,
                         std::vector<FewTokensLayer> layers,
                         const WeightMatrix* head,
                         FewTokensArgs& args);
  /// Room for what CTAs tell each other. False: it would move while a step is recorded.
  bool few_tokens_rooms(FewTokensArgs& args);
  /// What the launch does behind the layers, and before them. False, with nothing done: it does not
  /// read such a table.
  void add_head(const LmHead& head, FewTokensArgs& args);
  bool add_embedding(const TokenEmbedding& embedding, FewTokensArgs& args);
  PrepareArgs prepare_args(const AttentionRows& rows,
                           const KvView& kv,
                           const RopeTable& rope,
                           const Batch& batch,
                           float eps) const;
  /// Workspace of at least `bytes`; graphs that hold its old place are forgotten.
  std::byte* workspace(Workspace& of, int64_t bytes);
  void forget_graphs();

  const CudaOptions options_;
  const GpuKernels kernels_;
  std::string description_;
  cudaStream_t stream_ = nullptr;
  WeightStore weights_;
  StepArena arena_;
  StepGraphs graphs_;
  int64_t steps_ = 0;
  StepProfile profile_;
  Workspace route_logits_;
  static constexpr int kExpertArrivals = 2;  // ExpertsCall::arrivals; then ExpertsChoice::routed
  Buffer experts_arrivals_;                  // zeros between layers
  bool unwatched_step_ = false;              // nobody looks at results between ops
  ExpertsChoice late_choice_;  // of the layer under way: logits, if its experts are to choose
  Workspace linear_;
  Workspace experts_;
  Workspace attention_parts_;
  Workspace top_maxima_;
  Workspace top_rows_;
  Workspace drawn_there_;
  Buffer attention_arrivals_;
  Buffer few_tokens_words_;                        // FewTokensArgs::done and rooms
  std::vector<FewTokensLayer> few_tokens_layers_;  // as they stand on the device
  const std::byte* few_tokens_head_ = nullptr;     // the matrix whose maps stand there
  Workspace few_tokens_table_;
  PinnedBuffer result_;
  PinnedBuffer fetched_;
  int64_t wanted_top_ = 0;           // rows of the step under way; 0: its result itself is wanted
  std::span<const DrawSpec> draws_;  // of the step under way
  std::vector<TopLogits> top_;       // of the last step
  std::vector<int32_t> drawn_;       // likewise
};

}  // namespace facet::cuda
