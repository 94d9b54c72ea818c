// linear() and experts() against float64, bit-equality over T and over repetitions, the repacked
// form against the host's.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/experts.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/repack.h"
#include "kernels/cuda/weight_value.cuh"
#include "quant/float_formats.h"
#include "quant/nvfp4_tiles.h"
#include "tests/cuda/products.h"

namespace facet::test {
namespace {

/// A float32 sum of products against the exact one, relative to the sum of the products'
/// magnitudes: tensor cores add with a truncation of 2^-24 or so per step of up to 8192 / 16 steps.
constexpr double kSumTolerance = 4e-6;
/// An inner value this close to a tie of BF16 may be rounded to either side; the exact result is
/// then known up to one step of it.
constexpr double kTieTolerance = 2e-5;

int failures = 0;

void expect(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  std::printf("FAILED %s\n", what.c_str());
}

/// exact[t, r] = sum of w * bf16(x) in double, size[t, r] the sum of magnitudes.
__global__ void reference_kernel(double* exact,
                                 double* size,
                                 const float* w,
                                 const float* x,
                                 int rows,
                                 int cols,
                                 int tokens,
                                 int w_pitch) {
  const int r = blockIdx.x * blockDim.x + threadIdx.x;
  const int t = blockIdx.y;
  if (r >= rows || t >= tokens) return;
  double sum = 0;
  double magnitude = 0;
  for (int c = 0; c < cols; ++c) {
    const double product = static_cast<double>(w[int64_t{c} * w_pitch + r]) *
                           static_cast<double>(cuda::round_to_bf16(x[int64_t{t} * cols + c]));
    sum += product;
    magnitude += fabs(product);
  }
  exact[int64_t{t} * rows + r] = sum;
  size[int64_t{t} * rows + r] = magnitude;
}

__global__ void count_differences(const uint32_t* a,
                                  const uint32_t* b,
                                  int64_t count,
                                  int* differences) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    if (a[i] != b[i]) atomicAdd(differences, 1);
  }
}

int differing(const float* a, const float* b, int64_t count, cudaStream_t stream) {
  static DeviceArray<int> counter(1);
  must(cudaMemsetAsync(counter.get(), 0, sizeof(int), stream), "memset");
  count_differences<<<256, 256, 0, stream>>>(reinterpret_cast<const uint32_t*>(a),
                                             reinterpret_cast<const uint32_t*>(b), count,
                                             counter.get());
  must(cudaStreamSynchronize(stream), "compare");
  return counter.host()[0];
}

/// The matrix decoded on the host, transposed so that the reference reads along rows.
std::vector<float> decoded(const WeightMatrix& w) {
  std::vector<float> row(static_cast<size_t>(w.cols));
  std::vector<float> all(static_cast<size_t>(w.rows * w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w, r, row);
    for (int64_t c = 0; c < w.cols; ++c)
      all[static_cast<size_t>(c * w.rows + r)] = row[static_cast<size_t>(c)];
  }
  return all;
}

double worst_error(const std::vector<float>& got,
                   const std::vector<double>& exact,
                   const std::vector<double>& size) {
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - exact[i]) / (size[i] + 1e-30);
    if (!(error <= worst)) worst = std::isnan(error) ? 1e9 : error;
  }
  return worst;
}

constexpr int kTokenCounts[] = {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 100, 129, 1000};

void check_linear(WeightFormat format,
                  DType scale_dtype,
                  bool one_scale,
                  int64_t rows,
                  int64_t cols,
                  cudaStream_t stream) {
  const int most = 1000;
  const RandomMatrix m =
      random_matrix(format, scale_dtype, rows, cols, one_scale, static_cast<unsigned>(rows + cols));
  cuda::LinearWeights w = {m.device(), nullptr};
  DeviceArray<uint8_t> tiles(nvfp4_tiles_bytes(rows, cols));
  if (format == WeightFormat::kNvfp4) {
    must(cudaMemset(tiles.get(), 0xff, static_cast<size_t>(tiles.count())), "memset");
    cuda::repack_nvfp4(stream, reinterpret_cast<std::byte*>(tiles.get()), w.matrix);
    must(cudaStreamSynchronize(stream), "repack");
    expect(tiles.host() == pack_nvfp4_tiles(m.host), "repacked tiles as on the host");
    w.tiles = reinterpret_cast<const std::byte*>(tiles.get());
    w.matrix.data = nullptr;
    w.matrix.scales = nullptr;
  }
  const DeviceArray<float> x(random_floats(most * cols, 11));
  const DeviceArray<float> decoded_w(decoded(m.host));
  DeviceArray<double> exact(most * rows);
  DeviceArray<double> size(most * rows);
  reference_kernel<<<dim3(static_cast<unsigned>((rows + 127) / 128), most), 128, 0, stream>>>(
      exact.get(), size.get(), decoded_w.get(), x.get(), static_cast<int>(rows),
      static_cast<int>(cols), most, static_cast<int>(rows));
  must(cudaStreamSynchronize(stream), "reference");
  DeviceArray<float> all(most * rows);
  DeviceArray<float> out(most * rows);
  DeviceArray<std::byte> workspace(cuda::linear_workspace_bytes(most, cols));
  const std::string name = std::string(to_string(format)) + " [" + std::to_string(rows) + ", " +
                           std::to_string(cols) + "]";
  const auto run = [&](float* to, int tokens) {
    must(cudaMemsetAsync(to, 0xff, static_cast<size_t>(tokens * rows) * 4, stream), "memset");
    cuda::linear(stream, {to, x.get(), w, tokens, workspace.get(), cuda::Overlap::kNo});
    must(cudaStreamSynchronize(stream), name.c_str());
  };
  run(all.get(), most);
  const double worst = worst_error(all.host(), exact.host(), size.host());
  expect(worst < kSumTolerance, name + " of 1000: error " + std::to_string(worst * 1e6) + "e-6");
  int unequal = 0;
  for (const int tokens : kTokenCounts) {
    run(out.get(), tokens);
    const int different = differing(out.get(), all.get(), tokens * rows, stream);
    unequal += different;
    expect(different == 0, name + " of " + std::to_string(tokens) + ": " +
                               std::to_string(different) + " of " + std::to_string(tokens * rows) +
                               " values differ from T = 1000");
  }
  std::printf("linear %-24s worst error %.2fe-6 of the sum's size; %d values differ over T\n",
              name.c_str(), worst * 1e6, unequal);
  std::fflush(stdout);
}

void repeat_linear(WeightFormat format, int tokens, cudaStream_t stream) {
  const int64_t rows = 2816;
  const int64_t cols = 2816;
  const RandomMatrix m = random_matrix(format, DType::kBF16, rows, cols, false, 5);
  cuda::LinearWeights w = {m.device(), nullptr};
  DeviceArray<uint8_t> tiles(nvfp4_tiles_bytes(rows, cols));
  if (format == WeightFormat::kNvfp4) {
    cuda::repack_nvfp4(stream, reinterpret_cast<std::byte*>(tiles.get()), w.matrix);
    w.tiles = reinterpret_cast<const std::byte*>(tiles.get());
  }
  const DeviceArray<float> x(random_floats(tokens * cols, 3));
  DeviceArray<float> first(tokens * rows);
  DeviceArray<float> out(tokens * rows);
  DeviceArray<int> counter(1);
  DeviceArray<std::byte> workspace(cuda::linear_workspace_bytes(tokens, cols));
  must(cudaMemset(counter.get(), 0, 4), "memset");
  for (int i = 0; i <= 1000; ++i) {
    const auto overlap = i % 2 ? cuda::Overlap::kYes : cuda::Overlap::kNo;
    cuda::linear(stream,
                 {i == 0 ? first.get() : out.get(), x.get(), w, tokens, workspace.get(), overlap});
    if (i > 0)
      count_differences<<<64, 256, 0, stream>>>(reinterpret_cast<const uint32_t*>(out.get()),
                                                reinterpret_cast<const uint32_t*>(first.get()),
                                                tokens * rows, counter.get());
  }
  must(cudaStreamSynchronize(stream), "repetitions");
  expect(counter.host()[0] == 0, std::string("1000 repetitions of ") +
                                     std::string(to_string(format)) +
                                     ", T = " + std::to_string(tokens));
}

// ---- experts ----

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
                             workspace.get(), cuda::Overlap::kNo});
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
                     device_weights.get(), rows, top_k, workspace.get(), overlap});
      if (i > 0)
        count_differences<<<64, 256, 0, stream>>>(reinterpret_cast<const uint32_t*>(out.get()),
                                                  reinterpret_cast<const uint32_t*>(all.get()),
                                                  int64_t{rows} * hidden, counter.get());
    }
    must(cudaStreamSynchronize(stream), "repetitions");
    expect(counter.host()[0] == 0, name + ": 1000 repetitions, T = " + std::to_string(rows));
  }
}

}  // namespace

int check_products() {
  cudaStream_t stream;
  must(cudaStreamCreate(&stream), "stream");
  struct Case {
    int64_t rows, cols;
  };
  for (const Case c : {Case{16, 64}, Case{40, 112}, Case{5, 16}, Case{128, 2816}, Case{2112, 2816},
                       Case{2816, 2112}, Case{1000, 704}, Case{264, 4096}, Case{100, 8192},
                       Case{72, 24576}, Case{8192, 1040}}) {
    check_linear(WeightFormat::kBF16, DType::kF32, false, c.rows, c.cols, stream);
    check_linear(WeightFormat::kFp8, DType::kBF16, false, c.rows, c.cols, stream);
    check_linear(WeightFormat::kNvfp4, DType::kF32, false, c.rows, c.cols, stream);
  }
  check_linear(WeightFormat::kFp8, DType::kF32, true, 128, 2816, stream);
  check_linear(WeightFormat::kFp8, DType::kF32, false, 128, 2816, stream);
  check_linear(WeightFormat::kBF16, DType::kF32, false, 33, 100, stream);  // the plain kernel
  for (const int tokens : {1, 8, 33, 200}) {
    repeat_linear(WeightFormat::kBF16, tokens, stream);
    repeat_linear(WeightFormat::kNvfp4, tokens, stream);
  }
  std::printf("repetitions of linear done\n");
  check_experts(WeightFormat::kNvfp4, ActivationFunction::kGeluTanh, 16, 2816, 704, 8, stream);
  check_experts(WeightFormat::kNvfp4, ActivationFunction::kSilu, 8, 80, 48, 2, stream);
  check_experts(WeightFormat::kNvfp4, ActivationFunction::kGeluTanh, 5, 1088, 1040, 3, stream);
  check_experts(WeightFormat::kBF16, ActivationFunction::kGeluTanh, 10, 2816, 704, 8, stream);
  check_experts(WeightFormat::kBF16, ActivationFunction::kSilu, 9, 136, 40, 4, stream);
  std::printf(failures == 0 ? "all good\n" : "%d FAILED\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace facet::test
