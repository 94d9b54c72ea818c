// W4A4 against ref/w4a4.h: quantised activations, swizzled scales, the grouping by expert; with
// fp4_plain.cu, or on FP4 tensor cores where the build and the GPU have them.

#include <cmath>

#include "kernels/cuda/fp4_experts.h"
#include "kernels/cuda/fp4_quantize.cuh"
#include "quant/nvfp4.h"
#include "tests/cuda/fp4_reference.h"
#include "tests/cuda/products.h"

namespace facet::test {
namespace {

/// Float32 sums in another order.
constexpr double kLinearTolerance = 1e-5;
/// tanh and exp of the GPU put some inner values on the other side of a tie of E2M1.
constexpr double kExpertsTolerance = 1e-2;

/// |got - want| / |want|.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / size);
}

/// A matrix with scales of the producers' kind, and its operand.
struct Fp4Matrix {
  RandomMatrix random;
  DeviceArray<uint8_t> scales{0};

  Fp4Matrix(int64_t rows, int64_t cols, float input_scale, unsigned seed, cudaStream_t stream)
      : random(random_matrix(WeightFormat::kNvfp4, DType::kF8E4M3, rows, cols, false, seed)),
        scales(nvfp4_scale_bytes_128x4(rows, cols / 16)) {
    random.host.input_scale = input_scale;
    must(cudaMemsetAsync(scales.get(), 0, static_cast<size_t>(scales.count()), stream), "memset");
    cuda::swizzle_scales(stream, scales.get(), random.device().scales, rows, cols / 16);
  }
  cuda::Fp4Operand operand() const { return {random.device_data.get(), scales.get()}; }
  float alpha() const { return random.host.input_scale * random.host.global_scale; }
};

void check_linear(int64_t rows, int64_t cols, int tokens, cudaStream_t stream) {
  const Fp4Matrix w(rows, cols, 0.02F, 7, stream);
  const std::vector<float> x = random_floats(tokens * cols, 3);
  const DeviceArray<float> device_x(x);
  const DeviceArray<float> out(tokens * rows);
  const DeviceArray<std::byte> workspace(cuda::fp4_linear_workspace_bytes(tokens, cols));
  cuda::fp4_linear(stream, {out.get(), device_x.get(), w.operand(), w.random.host.input_scale,
                            w.random.host.global_scale, static_cast<int32_t>(rows),
                            static_cast<int32_t>(cols), tokens, workspace.get()});
  must(cudaStreamSynchronize(stream), "fp4_linear");
  const double error = distance(out.host(), reference_w4a4(x, w.random.host));
  expect(error < kLinearTolerance, "fp4_linear [" + std::to_string(rows) + ", " +
                                       std::to_string(cols) + "] x " + std::to_string(tokens) +
                                       ": " + std::to_string(error));
}

void check_experts(
    int experts, int top_k, int rows, ActivationFunction function, int skew, cudaStream_t stream) {
  constexpr int kHidden = 256;
  constexpr int kWidth = 96;
  std::vector<Fp4Matrix> matrices;
  std::vector<WeightMatrix> hosts;
  std::vector<cuda::Fp4Expert> list;
  for (int e = 0; e < experts; ++e) {
    const auto seed = static_cast<unsigned>(3 * e);
    const float x_scale = 0.01F * static_cast<float>(e % 3 + 1);
    matrices.emplace_back(kWidth, kHidden, x_scale, seed, stream);
    matrices.emplace_back(kWidth, kHidden, x_scale, seed + 1, stream);
    matrices.emplace_back(kHidden, kWidth, 0.5F, seed + 2, stream);
    const Fp4Matrix* m = &matrices[matrices.size() - 3];
    list.push_back({m[0].operand(), m[1].operand(), m[2].operand(), m[0].alpha(), m[1].alpha(),
                    m[2].alpha(), x_scale, 0.5F});
  }
  for (const Fp4Matrix& m : matrices) hosts.push_back(m.random.host);
  std::vector<int32_t> chosen;
  std::vector<float> weights;
  random_routing(rows, top_k, experts, skew, 5, chosen, weights);
  const std::vector<float> x = random_floats(int64_t{rows} * kHidden, 11);
  const DeviceArray<cuda::Fp4Expert> device_list(list);
  const DeviceArray<float> device_x(x);
  const DeviceArray<int32_t> device_chosen(chosen);
  const DeviceArray<float> device_weights(weights);
  const DeviceArray<float> out(int64_t{rows} * kHidden);
  cuda::Fp4ExpertsCall call;
  call.layer = {device_list.get(), function, experts, kHidden, kWidth};
  const DeviceArray<std::byte> workspace(
      cuda::fp4_experts_workspace_bytes(call.layer, rows, top_k));
  call.out = out.get();
  call.x = device_x.get();
  call.chosen = device_chosen.get();
  call.weights = device_weights.get();
  call.rows = rows;
  call.top_k = top_k;
  call.workspace = workspace.get();
  cuda::fp4_experts(stream, call);
  must(cudaStreamSynchronize(stream), "fp4_experts");
  std::vector<float> want;
  for (int t = 0; t < rows; ++t) {
    const auto row = [&](const auto& all, int width) {
      return std::vector(all.begin() + t * width, all.begin() + (t + 1) * width);
    };
    const std::vector<float> one = reference_experts_w4a4(
        row(x, kHidden), hosts, row(chosen, top_k), row(weights, top_k), function);
    want.insert(want.end(), one.begin(), one.end());
  }
  const double error = distance(out.host(), want);
  expect(error < kExpertsTolerance, "fp4_experts, " + std::to_string(rows) + " rows, skew " +
                                        std::to_string(skew) + ": " + std::to_string(error));
}

/// to_e4m3 by its instruction and by bits, over all BF16 and what lies between.
__global__ void compare_kernel(int* differences) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < (1u << 24);
       i += gridDim.x * blockDim.x) {
    const float value = __uint_as_float(i << 8 | (i & 0xffu));
    if (cuda::to_e4m3(value) != cuda::to_e4m3_by_bits(value)) atomicAdd(differences, 1);
  }
}

void check_e4m3(cudaStream_t stream) {
  const DeviceArray<int> differences(std::vector<int>{0});
  compare_kernel<<<1024, 256, 0, stream>>>(differences.get());
  must(cudaStreamSynchronize(stream), "to_e4m3");
  expect(differences.host()[0] == 0,
         "to_e4m3 by bits differs for " + std::to_string(differences.host()[0]) + " values");
}

}  // namespace

void check_fp4(cudaStream_t stream) {
  check_e4m3(stream);
  for (const int tokens : {1, 3, 128, 129}) check_linear(352, 416, tokens, stream);
  check_linear(2816, 704, 5, stream);
  for (const int rows : {1, 5, 300}) {
    for (const int skew : {0, 1, 2})
      check_experts(16, 4, rows, ActivationFunction::kGeluTanh, skew, stream);
  }
  check_experts(16, 4, 1100, ActivationFunction::kSilu, 0, stream);
}

}  // namespace facet::test
