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
  PhaseTimes(const Bench& bench, int tokens) : b_(bench), tokens_(tokens), arrivals_(64) {
    must(cudaMemset(arrivals_.get(), 0, 256), "memset");
    std::vector<int32_t> c;
    std::vector<float> w;
    random_routing(tokens, 8, 128, 0, 5, c, w);
    chosen_.emplace_back(c);
    weights_.emplace_back(w);
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
           [&](int i) { enter(i, routes); });
    }
    for (const bool beside : {false, true}) time_leave(beside);
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
  void enter(int i, bool routes) const {
    const int64_t offset = int64_t{i} * 4400 * 2816 * 2;
    cuda::EnterArgs args;
    args.x = normed(false);
    args.gate = {bf16(at(offset), 2112, 2816)};
    args.up = {bf16(at(offset + 2112 * 2816 * 2), 2112, 2816)};
    args.gate_room = b_.out.get() + 6000000;
    args.inner = b_.out.get();
    args.function = ActivationFunction::kGeluTanh;
    args.arrivals = arrivals_.get();
    cuda::RouteArgs route;
    route.experts = arrivals_.get() + 8 * 0 + 32;
    route.weights = b_.out.get() + 7000000;
    route.logits = b_.out.get() + 7100000;
    route.x = b_.x.get();
    route.proj = bf16(at(offset + 4224 * 2816 * 2), 128, 2816);
    route.scale = b_.x.get() + 340000;
    route.per_expert_scale = b_.x.get() + 350000;
    route.rows = tokens_;
    route.top_k = 2;
    route.eps = 1e-6F;
    if (routes) {
      args.route = &route;
      args.sparse = {b_.out.get() + 7200000, b_.x.get() + 360000};
    }
    cuda::enter_feed_forward(b_.stream, args);
  }
  void time_leave(bool beside) {
    const int64_t gate_up = nvfp4_pair_tiles_bytes(704, 2816);
    const int64_t down = nvfp4_tiles_bytes(2816, 704);
    std::vector<cuda::ExpertPointers> pointers;
    constexpr int kLayers = 6;
    for (int i = 0; i < kLayers * 128; ++i) {
      const std::byte* from = at(i * (gate_up + down));
      pointers.push_back({from, from, from + gate_up, 1e-3F, 1e-3F, 1e-3F});
    }
    const DeviceArray<cuda::ExpertPointers> device(pointers);
    const double bytes =
        static_cast<double>(gate_up + down) * 8 * tokens_ + (beside ? 2816.0 * 2112 * 2 : 0.0);
    time(beside ? "experts beside dense down" : "experts", bytes, [&](int i) {
      const cuda::ExpertsLayer layer = {WeightFormat::kNvfp4,
                                        {ActivationFunction::kGeluTanh, Gating::kGated},
                                        128,
                                        2816,
                                        704,
                                        device.get() + i % kLayers * 128};
      const cuda::LinearArgs dense = {b_.out.get() + 1000000,
                                      b_.x.get(),
                                      {bf16(at(int64_t{i} * 2816 * 2112 * 2), 2816, 2112)},
                                      tokens_,
                                      b_.workspace.get(),
                                      cuda::Overlap::kYes};
      cuda::experts(b_.stream,
                    {layer, b_.out.get(), b_.x.get(), chosen_[0].get(), weights_[0].get(), tokens_,
                     8, b_.workspace.get(), cuda::Overlap::kYes, beside ? &dense : nullptr});
    });
  }

  const Bench& b_;
  const int tokens_;
  DeviceArray<int32_t> arrivals_;
  std::vector<DeviceArray<int32_t>> chosen_;
  std::vector<DeviceArray<float>> weights_;
};

}  // namespace

void time_phases(const Bench& bench, int tokens) { PhaseTimes(bench, tokens).run(); }

}  // namespace facet::test
