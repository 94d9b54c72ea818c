// Times of the phases that a layer of decode is made of, at the large model's shapes.

#include "kernels/cuda/experts.h"
#include "kernels/cuda/linear.h"
#include "quant/nvfp4_tiles.h"
#include "tests/cuda/products.h"
#include "tests/cuda/products_time.h"

namespace facet::test {
namespace {

class PhaseTimes {
 public:
  PhaseTimes(const Bench& bench, int tokens)
      : b_(bench), tokens_(tokens), routed_(64), arrivals_(2) {
    must(cudaMemset(arrivals_.get(), 0, 8), "memset");
    std::vector<int32_t> c;
    std::vector<float> w;
    random_routing(tokens, 8, 128, 0, 5, c, w);
    chosen_.emplace_back(c);
    weights_.emplace_back(w);
    make_experts();
  }

  void run() {
    for (const bool joins : {false, true}) {
      time(joins ? "q, k, v after a join" : "q, k, v after an add", 8192 * 2816 * 2, [&](int i) {
        project(i, joins, {4096, 2048, 2048});
      });
    }
    time("a product of [128, 2816] after an add", 128 * 2816 * 2,
         [&](int i) { project(i, false, {128}); });
    for (const bool routes : {false, true}) {
      time(routes ? "gate and up beside the router" : "gate and up", 4224 * 2816 * 2,
           [&](int i) { enter(i, routes, cuda::Overlap::kYes); });
    }
    for (const bool beside : {false, true}) time_leave(beside);
    time_feed_forward();
  }

 private:
  template <typename Body>
  void time(const char* name, double bytes, const Body& body) {
    constexpr int kCalls = 48;
    const double us = time_graph(b_.stream, [&] {
      for (int i = 0; i < kCalls; ++i) body(i);
    });
    print_time(name, tokens_, bytes, us / kCalls, 0);
  }
  const std::byte* at(int64_t offset) const {
    return reinterpret_cast<const std::byte*>(b_.weights.get()) +
           offset % (b_.weights.count() * 4 - (int64_t{64} << 20)) / 256 * 256;
  }
  static WeightMatrix bf16(const std::byte* data, int64_t rows, int64_t cols) {
    WeightMatrix w;
    w.format = WeightFormat::kBF16;
    w.rows = rows;
    w.cols = cols;
    w.data = data;
    return w;
  }
  cuda::NormedStream normed(bool joins) const {
    cuda::NormedStream x;
    float* rows = b_.x.get();
    x.stream = {rows,          b_.out.get() + 4000000,
                rows + 100000, joins ? rows + 200000 : nullptr,
                rows + 300000, rows + 310000,
                rows + 320000, 1.0F,
                1e-6F,         2816};
    x.norm = rows + 330000;
    x.h = b_.out.get() + 5000000;
    x.rows = tokens_;
    x.workspace = b_.workspace.get();
    x.overlap = cuda::Overlap::kYes;
    return x;
  }
  void project(int i, bool joins, const std::vector<int>& rows) const {
    std::vector<cuda::LinearOutput> outputs;
    int64_t offset = int64_t{i} * 8192 * 2816 * 2;
    for (const int r : rows) {
      outputs.push_back({{bf16(at(offset), r, 2816)}, b_.out.get() + 200000 * outputs.size()});
      offset += int64_t{r} * 2816 * 2;
    }
    cuda::project(b_.stream, normed(joins), outputs);
  }
  void enter(int i, bool routes, cuda::Overlap overlap) const {
    const int64_t offset = int64_t{i} * 4400 * 2816 * 2;
    cuda::EnterArgs args;
    args.x = normed(false);
    args.x.overlap = overlap;
    args.gate = {bf16(at(offset), 2112, 2816)};
    args.up = {bf16(at(offset + 2112 * 2816 * 2), 2112, 2816)};
    args.gate_room = b_.out.get() + 6000000;
    args.inner = b_.out.get();
    args.function = ActivationFunction::kGeluTanh;
    args.leaves_choice = true;
    cuda::RouteArgs route;
    route.experts = routed_.get();
    route.weights = b_.out.get() + 7000000;
    route.logits = b_.out.get() + 7100000;
    route.x = b_.x.get();
    route.proj = bf16(at(offset + 4224 * 2816 * 2), 128, 2816);
    route.scale = b_.x.get() + 340000;
    route.per_expert_scale = b_.x.get() + 350000;
    route.rows = tokens_;
    route.top_k = 8;
    route.eps = 1e-6F;
    if (routes) {
      args.route = &route;
      args.sparse = {b_.out.get() + 7200000, b_.x.get() + 360000};
    }
    cuda::enter_feed_forward(b_.stream, args);
  }
  void make_experts() {
    const int64_t gate_up = nvfp4_pair_tiles_bytes(704, 2816);
    const int64_t down = nvfp4_tiles_bytes(2816, 704);
    std::vector<cuda::ExpertPointers> pointers;
    for (int i = 0; i < kLayers * 128; ++i) {
      const std::byte* from = at(i * (gate_up + down));
      pointers.push_back({from, from, from + gate_up, 1e-3F, 1e-3F, 1e-3F});
    }
    pointers_.emplace_back(pointers);
  }
  cuda::ExpertsCall experts_call(int i, cuda::Overlap overlap) const {
    const cuda::ExpertsLayer layer = {WeightFormat::kNvfp4,
                                      {ActivationFunction::kGeluTanh, Gating::kGated},
                                      128,
                                      2816,
                                      704,
                                      pointers_[0].get() + i % kLayers * 128};
    return {layer, b_.out.get() + 2000000, b_.x.get(), chosen_[0].get(), weights_[0].get(), tokens_,
            8,     b_.workspace.get(),     overlap,    nullptr,          arrivals_.get()};
  }
  cuda::LinearArgs dense_down(int i, const float* x) const {
    return {b_.out.get() + 1000000,
            x,
            {bf16(at(int64_t{i} * 2816 * 2112 * 2), 2816, 2112)},
            tokens_,
            b_.workspace.get(),
            cuda::Overlap::kYes};
  }
  static double experts_bytes(int tokens) {
    return static_cast<double>(nvfp4_pair_tiles_bytes(704, 2816) + nvfp4_tiles_bytes(2816, 704)) *
           8 * tokens;
  }
  void time_leave(bool beside) {
    const double bytes = experts_bytes(tokens_) + (beside ? 2816.0 * 2112 * 2 : 0.0);
    time(beside ? "experts beside dense down" : "experts", bytes, [&](int i) {
      const cuda::LinearArgs dense = dense_down(i, b_.x.get());
      cuda::ExpertsCall call = experts_call(i, cuda::Overlap::kYes);
      if (beside) call.beside = &dense;
      cuda::experts(b_.stream, call);
    });
  }
  /// From the stream to the experts' sum, as in a layer: each launch needs what the one before
  /// gave.
  void feed_forward(int i, cuda::Overlap overlap) const {
    enter(i, true, overlap);
    const cuda::LinearArgs dense = dense_down(i, b_.out.get());
    cuda::ExpertsCall call = experts_call(i, overlap);
    call.x = b_.out.get() + 7200000;
    call.choice = {b_.out.get() + 7100000, b_.x.get() + 350000, routed_.get(),
                   b_.out.get() + 7000000};
    call.beside = &dense;
    cuda::experts(b_.stream, call);
  }
  void time_feed_forward() {
    const double bytes = experts_bytes(tokens_) + 2816.0 * 2112 * 2 * 3 + 128.0 * 2816 * 2;
    time("feed-forward", bytes, [&](int i) { feed_forward(i, cuda::Overlap::kYes); });
    print_alone(b_.stream, 24, [&](int i) { feed_forward(i, cuda::Overlap::kYes); });
  }

  static constexpr int kLayers = 6;
  const Bench& b_;
  const int tokens_;
  DeviceArray<int32_t> routed_;
  DeviceArray<int32_t> arrivals_;
  std::vector<DeviceArray<int32_t>> chosen_;
  std::vector<DeviceArray<float>> weights_;
  std::vector<DeviceArray<cuda::ExpertPointers>> pointers_;
};

}  // namespace

void time_phases(const Bench& bench, int tokens) { PhaseTimes(bench, tokens).run(); }

}  // namespace facet::test
