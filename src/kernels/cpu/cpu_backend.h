#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/worker_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/kernel_table.h"

namespace facet::cpu {

struct CpuOptions {
  std::optional<Isa> isa = std::nullopt;  ///< unset: best_isa()
  int32_t threads = 0;  ///< the caller's included; 0: one per core this process may use
};

/// Every op on the processor's own vectors, over a pool of threads that it owns. One caller at a
/// time. Scratch grows to the largest step and is kept.
class CpuBackend final : public Backend {
 public:
  /// `isa` must be one of supported_isas(). Use make_cpu_backend.
  CpuBackend(Isa isa, int32_t threads);

  std::string_view describe() const override { return description_; }
  const Buffer::Allocator& allocator() const override { return host_allocator(); }
  std::optional<DevicePeaks> measure_peaks() override;
  KernelChoice linear_kernel(const WeightMatrix& matrix) const override;
  KernelChoice experts_kernel(const ExpertWeights& experts,
                              const Activation& activation) const override;
  KernelChoice attention_kernel(const AttentionShape& shape) const override;

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

 private:
  /// Queries that share a KV head and a sequence: heads [first_head, first_head + heads) of rows
  /// [first_row, first_row + rows), over the parts [first_part, end_part) of the positions.
  struct QueryBlock {
    int32_t sequence = 0;
    int32_t kv_head = 0;
    int32_t first_row = 0;
    int32_t rows = 0;
    int32_t first_head = 0;
    int32_t heads = 0;
    int64_t first_part = 0;
    int64_t end_part = 0;
    int64_t first_partial = 0;  // of first_part, in partial_queries_; split only

    int32_t queries() const { return rows * heads; }
    int64_t parts() const { return end_part - first_part; }
  };

  /// The operands of one attention call.
  struct AttentionCall {
    float* out = nullptr;
    const float* q = nullptr;
    const KvView* kv = nullptr;
    int32_t window = 0;
    int32_t q_heads = 0;
    const Batch* batch = nullptr;
  };

  /// What a query has gathered over the parts so far; the weighted values are in its row of `out`.
  struct QueryState {
    bool started = false;
    float max = 0.0F;
    float sum = 0.0F;
  };

  /// The operands of experts() for some of the rows.
  struct ExpertCall {
    float* out = nullptr;      // [T, H]
    const float* x = nullptr;  // [T, H]
    const ExpertWeights* weights = nullptr;
    const int32_t* experts = nullptr;       // [T, top_k]
    const float* expert_weights = nullptr;  // [T, top_k]
    int64_t rows = 0;
    int64_t top_k = 0;
    int64_t hidden = 0;
    int64_t inner = 0;
    Activation activation;

    int64_t pairs() const { return rows * top_k; }
  };

  /// Rows of x in the order of some products.
  struct ArrangedRows {
    void resize(int64_t rows, int64_t cols);
    std::vector<float> floats;
    std::vector<float*> pointers;  // [rows]
  };

  /// body(begin, end) over [0, count) on all threads where the work is worth it; `cost` in
  /// multiply-adds per element.
  void for_range(int64_t count, int64_t cost, RangeBody body);

  /// Each row of x, [cols], in the order; valid until the next call for it.
  std::span<const float* const> arrange_rows(XOrder order,
                                             std::span<const float* const> x,
                                             int64_t cols);
  void linear_rows(const WeightMatrix& w,
                   std::span<const float* const> x,
                   std::span<float* const> out);
  void fill_rows(const float* x, int64_t x_stride, float* out, int64_t out_stride, int64_t rows);

  void plan_queries(const AttentionCall& call);
  void attend_part(const AttentionCall& call,
                   const QueryBlock& block,
                   int64_t part,
                   int64_t slot,
                   std::span<AttendQuery> queries);
  void attend_whole(const AttentionCall& call, const QueryBlock& block, int64_t slot);
  void attend_split(const AttentionCall& call);
  void join_parts(const AttentionCall& call, const QueryBlock& block);
  /// The row of `out` that query n of a block writes.
  static float* row_of(const AttentionCall& call, const QueryBlock& block, size_t query);
  void merge(QueryState& state, const AttendQuery& part, float* out, int64_t head_dim) const;

  void experts_chunk(const ExpertCall& call);
  void group_by_expert(const ExpertCall& call);
  /// Whether an active expert's gate or up (or down, with `down`) wants x in the order.
  bool some_want(const ExpertCall& call, XOrder order, bool down) const;
  /// Rows [begin, end) of the products of an expert's matrix with pairs [first, first + pairs).
  void expert_linear(const WeightMatrix& w,
                     int64_t begin,
                     int64_t end,
                     size_t first,
                     std::span<float* const> out) const;
  /// body(matrices, first pair, pairs, begin, end) for row pieces [begin, end) of [0, rows) of
  /// every active expert.
  template <typename Body>
  void for_expert_rows(const ExpertCall& call, int64_t rows, int64_t cols, const Body& body);
  void expert_inner(const ExpertCall& call);
  void expert_down(const ExpertCall& call);
  void expert_combine(const ExpertCall& call);

  // Constant after construction.
  const Isa isa_;
  KernelTable kernels_;
  std::string description_;

  WorkerPool pool_;

  // Scratch of one op.
  std::vector<const float*> x_rows_;
  std::vector<float*> out_rows_;
  std::vector<float> floats_;  // rope: cosines and sines; route: z and logits
  std::array<ArrangedRows, kXOrders> arranged_;

  std::vector<QueryBlock> blocks_;
  std::vector<float> attention_floats_;  // per slot
  int64_t attention_stride_ = 0;
  std::vector<AttendQuery> partial_queries_;  // [block][part][query]
  std::vector<float> partial_floats_;
  std::vector<std::pair<int32_t, int64_t>> partial_items_;  // block, part

  // Pairs of a row and one of its experts stand in the order of the experts.
  std::vector<int32_t> expert_offsets_;   // [E + 1]: first pair of each
  std::vector<int32_t> expert_next_;      // [E]: while pairs are placed
  std::vector<int32_t> active_experts_;   // those with pairs
  std::vector<int32_t> pair_places_;      // [T, top_k]: where a pair stands
  std::vector<float> inner_floats_;       // [pairs, F], twice if gated
  std::vector<float> down_floats_;        // [pairs, H]
  std::vector<const float*> inner_rows_;  // of the activated values
  std::vector<const float*> token_rows_;
  std::array<std::vector<const float*>, kXOrders> pair_rows_;  // arranged; stale if not wanted
  std::vector<float*> up_rows_;
  std::vector<float*> gate_rows_;
  std::vector<float*> down_rows_;
};

/// Throws Error{kUsage} if options.isa is one that this machine lacks, Error{kDevice} if it lacks
/// all.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace facet::cpu
