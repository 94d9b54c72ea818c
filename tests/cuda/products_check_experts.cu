// experts() against float64, bit-equality over T and over repetitions.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/experts.h"
#include "kernels/cuda/repack.h"
#include "kernels/cuda/route.h"
#include "quant/float_formats.h"
#include "quant/nvfp4_tiles.h"
#include "tests/cuda/products.h"

namespace facet::test {
namespace {

/// An inner value this close to a tie of BF16 may be rounded to either side; the exact result is
/// then known up to one step of it.
constexpr double kTieTolerance = 2e-5;

struct Layer {
  cuda::ExpertsLayer layer;
  std::vector<RandomMatrix> matrices;  // gate, up, down of each expert
  std::vector<DeviceArray<uint8_t>> tiles;
  std::vector<cuda::ExpertPointers> pointers;
  DeviceArray<cuda::ExpertPointers> device_pointers{0};
};

void make_layer(Layer& l,
                WeightFormat format,
                ActivationFunction function,
                int experts,
                int hidden,
                int width,
                cudaStream_t stream) {
  l.layer = {format, {function, Gating::kGated}, experts, hidden, width, nullptr};
  for (int e = 0; e < experts; ++e) {
    for (int i = 0; i < 3; ++i) {
      const int64_t rows = i < 2 ? width : hidden;
      l.matrices.push_back(random_matrix(format, DType::kF32, rows, i < 2 ? hidden : width, false,
                                         static_cast<unsigned>(e * 3 + i)));
    }
    const WeightMatrix gate = l.matrices[static_cast<size_t>(e) * 3].device();
    const WeightMatrix up = l.matrices[static_cast<size_t>(e) * 3 + 1].device();
    const WeightMatrix down = l.matrices[static_cast<size_t>(e) * 3 + 2].device();
    cuda::ExpertPointers p = {gate.data, up.data, down.data, 1, 1, 1};
    if (format == WeightFormat::kNvfp4) {
      l.tiles.emplace_back(nvfp4_pair_tiles_bytes(width, hidden));
      p.gate = reinterpret_cast<std::byte*>(l.tiles.back().get());
      cuda::repack_nvfp4_pair(stream, reinterpret_cast<std::byte*>(l.tiles.back().get()), gate, up);
      l.tiles.emplace_back(nvfp4_tiles_bytes(hidden, width));
      p.down = reinterpret_cast<std::byte*>(l.tiles.back().get());
      cuda::repack_nvfp4(stream, reinterpret_cast<std::byte*>(l.tiles.back().get()), down);
      p.up = nullptr;
      p.gate_scale = gate.global_scale;
      p.up_scale = up.global_scale;
      p.down_scale = down.global_scale;
    }
    l.pointers.push_back(p);
  }
  must(cudaStreamSynchronize(stream), "repack experts");
  if (format == WeightFormat::kNvfp4) {
    expect(l.tiles[0].host() == pack_nvfp4_pair_tiles(l.matrices[0].host, l.matrices[1].host),
           "repacked gate and up as on the host");
  }
  l.device_pointers.~DeviceArray();
  new (&l.device_pointers) DeviceArray<cuda::ExpertPointers>(l.pointers);
  l.layer.experts = l.device_pointers.get();
}

double activation(ActivationFunction function, double z) {
  if (function == ActivationFunction::kSilu) return z / (1 + std::exp(-z));
  return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
}

/// One row on the host in double, rounding where the op does.
void reference_row(const Layer& l,
                   const float* x,
                   const int32_t* chosen,
                   const float* weights,
                   int top_k,
                   std::vector<double>& out,
                   std::vector<double>& size) {
  const auto hidden = static_cast<size_t>(l.layer.hidden);
  const auto width = static_cast<size_t>(l.layer.width);
  std::vector<float> rounded(hidden);
  for (size_t i = 0; i < hidden; ++i) rounded[i] = bf16_to_float(float_to_bf16(x[i]));
  std::vector<float> w(std::max(hidden, width));
  out.assign(hidden, 0);
  size.assign(hidden, 0);
  for (int j = 0; j < top_k; ++j) {
    const auto* e = &l.matrices[static_cast<size_t>(chosen[j]) * 3];
    const auto dot = [&](const WeightMatrix& m, int64_t r, const float* v, double* magnitude) {
      dequantize_row(m, r, std::span(w).first(static_cast<size_t>(m.cols)));
      double sum = 0;
      for (int64_t c = 0; c < m.cols; ++c) {
        const double product =
            static_cast<double>(w[static_cast<size_t>(c)]) * static_cast<double>(v[c]);
        sum += product;
        if (magnitude) *magnitude += std::abs(product);
      }
      return sum;
    };
    std::vector<float> inner(width);
    std::vector<float> step(width);
    for (size_t f = 0; f < width; ++f) {
      const double gate = dot(e[0].host, static_cast<int64_t>(f), rounded.data(), nullptr);
      const double up = dot(e[1].host, static_cast<int64_t>(f), rounded.data(), nullptr);
      const double value = activation(l.layer.activation.function, gate) * up;
      const double slack = kTieTolerance * (std::abs(value) + std::abs(up) * 1e-3);
      inner[f] = bf16_to_float(float_to_bf16(static_cast<float>(value)));
      step[f] = std::abs(bf16_to_float(float_to_bf16(static_cast<float>(value + slack))) -
                         bf16_to_float(float_to_bf16(static_cast<float>(value - slack))));
    }
    for (size_t h = 0; h < hidden; ++h) {
      double magnitude = 0;
      out[h] += static_cast<double>(weights[j]) *
                dot(e[2].host, static_cast<int64_t>(h), inner.data(), &magnitude);
      double ties = 0;
      for (size_t f = 0; f < width; ++f)
        ties += std::abs(static_cast<double>(w[f])) * static_cast<double>(step[f]);
      size[h] += static_cast<double>(weights[j]) * (magnitude + ties / kSumTolerance);
    }
  }
}

/// experts() that choose for themselves against route_choice() and experts(), ties and NaN among
/// the logits.
void check_choice(const Layer& l,
                  int top_k,
                  const DeviceArray<float>& x,
                  const DeviceArray<std::byte>& workspace,
                  const std::string& name,
                  cudaStream_t stream) {
  const int count = l.layer.count;
  const int hidden = l.layer.hidden;
  constexpr int kRounds = 20;
  std::vector<float> logits = random_floats(int64_t{kRounds} * 8 * count, 41);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i / static_cast<size_t>(8 * count) % 2 == 1) logits[i] = std::round(logits[i] * 2);
    if (i % 97 == 5) logits[i] = NAN;
    if (i % 89 == 3) logits[i] = -INFINITY;
  }
  const DeviceArray<float> device_logits(logits);
  const DeviceArray<float> scales(random_floats(count, 43));
  DeviceArray<int32_t> chosen(8 * top_k);
  DeviceArray<float> weights(8 * top_k);
  DeviceArray<int32_t> late_chosen(8 * top_k);
  DeviceArray<float> late_weights(8 * top_k);
  DeviceArray<float> wanted(int64_t{8} * hidden);
  DeviceArray<float> found(int64_t{8} * hidden);
  DeviceArray<int32_t> arrivals(2);
  must(cudaMemset(arrivals.get(), 0, 8), "memset");
  int different = 0;
  int unlike = 0;
  int compared = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (int rows = 1; rows <= 8; ++rows) {
      if (!cuda::experts_choose(l.layer, rows, top_k)) continue;
      cuda::RouteArgs route;
      route.experts = chosen.get();
      route.weights = weights.get();
      route.logits = const_cast<float*>(device_logits.get()) + int64_t{round} * 8 * count;
      route.proj.rows = count;
      route.per_expert_scale = scales.get();
      route.rows = rows;
      route.top_k = top_k;
      cuda::route_choice(stream, route);
      cuda::ExpertsCall call = {l.layer,      wanted.get(),    x.get(),
                                chosen.get(), weights.get(),   rows,
                                top_k,        workspace.get(), cuda::Overlap::kYes};
      cuda::experts(stream, call);
      call.out = found.get();
      call.chosen = nullptr;
      call.weights = nullptr;
      call.arrivals = round % 2 == 0 ? arrivals.get() : nullptr;
      call.choice = {route.logits, scales.get(), late_chosen.get(), late_weights.get()};
      cuda::experts(stream, call);
      must(cudaStreamSynchronize(stream), "a late choice");
      different += differing(wanted.get(), found.get(), int64_t{rows} * hidden, stream);
      different += differing(weights.get(), late_weights.get(), int64_t{rows} * top_k, stream);
      const std::vector<int32_t> a = chosen.host();
      const std::vector<int32_t> b = late_chosen.host();
      unlike += !std::equal(a.begin(), a.begin() + int64_t{rows} * top_k, b.begin());
      ++compared;
    }
  }
  expect(compared >= kRounds && different == 0 && unlike == 0,
         name + ": experts that choose: " + std::to_string(different) + " values and " +
             std::to_string(unlike) + " choices of " + std::to_string(compared) + " differ");
}

void check_experts(WeightFormat format,
                   ActivationFunction function,
                   int experts,
                   int hidden,
                   int width,
                   int top_k,
                   cudaStream_t stream) {
  Layer l;
  make_layer(l, format, function, experts, hidden, width, stream);
  const int most = 1000;
  // Sized so that gates fall on both sides of the activation.
  std::vector<float> x = random_floats(int64_t{most} * hidden, 17);
  double square = 0;
  std::vector<float> w(static_cast<size_t>(hidden));
  dequantize_row(l.matrices[0].host, 0, w);
  for (const float v : w) square += static_cast<double>(v) * static_cast<double>(v);
  for (float& v : x) v *= static_cast<float>(1.5 / std::sqrt(square + 1e-30));
  const DeviceArray<float> device_x(x);
  DeviceArray<float> all(int64_t{most} * hidden);
  DeviceArray<float> out(int64_t{most} * hidden);
  DeviceArray<std::byte> workspace(cuda::experts_workspace_bytes(l.layer, most, top_k));
  const std::string name = std::string(to_string(format)) + " " + std::to_string(top_k) + " of " +
                           std::to_string(experts) + " [" + std::to_string(hidden) + ", " +
                           std::to_string(width) + "] " +
                           std::string(to_string(l.layer.activation));
  DeviceArray<int32_t> arrivals(2);
  must(cudaMemset(arrivals.get(), 0, 8), "memset");
  for (int skew = 0; skew < 3; ++skew) {
    std::vector<int32_t> chosen;
    std::vector<float> weights;
    random_routing(most, top_k, experts, skew, 23, chosen, weights);
    const DeviceArray<int32_t> device_chosen(chosen);
    const DeviceArray<float> device_weights(weights);
    const auto run = [&](float* to, int rows, int first) {
      must(cudaMemsetAsync(to, 0xff, static_cast<size_t>(rows * hidden) * 4, stream), "memset");
      cuda::experts(stream, {l.layer, to, device_x.get() + int64_t{first} * hidden,
                             device_chosen.get() + int64_t{first} * top_k,
                             device_weights.get() + int64_t{first} * top_k, rows, top_k,
                             workspace.get(), cuda::Overlap::kNo, nullptr, arrivals.get()});
      must(cudaStreamSynchronize(stream), name.c_str());
    };
    run(all.get(), most, 0);
    const std::vector<float> got = all.host();
    double worst = 0;
    for (const int t : {0, 1, 499, 999}) {
      std::vector<double> exact;
      std::vector<double> size;
      reference_row(l, x.data() + int64_t{t} * hidden, chosen.data() + t * top_k,
                    weights.data() + t * top_k, top_k, exact, size);
      worst = std::max(worst, worst_error({got.begin() + int64_t{t} * hidden,
                                           got.begin() + int64_t{t + 1} * hidden},
                                          exact, size));
    }
    expect(worst < kSumTolerance, name + ": error " + std::to_string(worst * 1e6) + "e-6");
    int unequal = 0;
    for (const int rows : kTokenCounts) {
      const int first = most - rows;
      run(out.get(), rows, first);
      const int different =
          differing(out.get(), all.get() + int64_t{first} * hidden, int64_t{rows} * hidden, stream);
      unequal += different;
      expect(different == 0, name + " of " + std::to_string(rows) + ", skew " +
                                 std::to_string(skew) + ": " + std::to_string(different) +
                                 " values differ from T = 1000");
    }
    std::printf("experts %-40s skew %d worst error %.2fe-6; %d values differ over T\n",
                name.c_str(), skew, worst * 1e6, unequal);
    std::fflush(stdout);
  }
  check_choice(l, top_k, device_x, workspace, name, stream);
  // Repetitions, as the kernels overlap.
  std::vector<int32_t> chosen;
  std::vector<float> weights;
  for (const int rows : {1, 8, 33}) {
    random_routing(rows, top_k, experts, 0, 29, chosen, weights);
    const DeviceArray<int32_t> device_chosen(chosen);
    const DeviceArray<float> device_weights(weights);
    DeviceArray<int> counter(1);
    must(cudaMemset(counter.get(), 0, 4), "memset");
    for (int i = 0; i <= 1000; ++i) {
      const auto overlap = i % 2 ? cuda::Overlap::kYes : cuda::Overlap::kNo;
      cuda::experts(stream,
                    {l.layer, i == 0 ? all.get() : out.get(), device_x.get(), device_chosen.get(),
                     device_weights.get(), rows, top_k, workspace.get(), overlap, nullptr,
                     i % 4 < 2 ? arrivals.get() : nullptr});
      if (i > 0)
        count_differing(out.get(), all.get(), int64_t{rows} * hidden, counter.get(), stream);
    }
    must(cudaStreamSynchronize(stream), "repetitions");
    expect(counter.host()[0] == 0, name + ": 1000 repetitions, T = " + std::to_string(rows));
  }
}

}  // namespace

void check_all_experts(cudaStream_t stream) {
  check_experts(WeightFormat::kNvfp4, ActivationFunction::kGeluTanh, 16, 2816, 704, 8, stream);
  check_experts(WeightFormat::kNvfp4, ActivationFunction::kSilu, 8, 80, 48, 2, stream);
  check_experts(WeightFormat::kNvfp4, ActivationFunction::kGeluTanh, 5, 1088, 1040, 3, stream);
  check_experts(WeightFormat::kBF16, ActivationFunction::kGeluTanh, 10, 2816, 704, 8, stream);
  check_experts(WeightFormat::kBF16, ActivationFunction::kSilu, 9, 136, 40, 4, stream);
}

}  // namespace facet::test
