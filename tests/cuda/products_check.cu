// linear() and experts() against float64, bit-equality over T and over repetitions, the repacked
// form against the host's.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/repack.h"
#include "kernels/cuda/weight_value.cuh"
#include "quant/float_formats.h"
#include "quant/nvfp4_tiles.h"
#include "tests/cuda/products.h"

namespace facet::test {
namespace {

int failures = 0;

__global__ void count_differences(const uint32_t* a,
                                  const uint32_t* b,
                                  int64_t count,
                                  int* differences) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    if (a[i] != b[i]) atomicAdd(differences, 1);
  }
}

}  // namespace

void expect(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  std::printf("FAILED %s\n", what.c_str());
}

void count_differing(
    const float* a, const float* b, int64_t count, int* differences, cudaStream_t stream) {
  count_differences<<<64, 256, 0, stream>>>(reinterpret_cast<const uint32_t*>(a),
                                            reinterpret_cast<const uint32_t*>(b), count,
                                            differences);
}

int differing(const float* a, const float* b, int64_t count, cudaStream_t stream) {
  const DeviceArray<int> counter(1);
  must(cudaMemsetAsync(counter.get(), 0, sizeof(int), stream), "memset");
  count_differing(a, b, count, counter.get(), stream);
  must(cudaStreamSynchronize(stream), "compare");
  return counter.host()[0];
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

namespace {

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
    if (i > 0) count_differing(out.get(), first.get(), tokens * rows, counter.get(), stream);
  }
  must(cudaStreamSynchronize(stream), "repetitions");
  expect(counter.host()[0] == 0, std::string("1000 repetitions of ") +
                                     std::string(to_string(format)) +
                                     ", T = " + std::to_string(tokens));
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
  check_all_experts(stream);
  check_fp4(stream);
  std::printf(failures == 0 ? "all good\n" : "%d FAILED\n", failures);
  return failures == 0 ? 0 : 1;
}

int check_experts_alone() {
  cudaStream_t stream;
  must(cudaStreamCreate(&stream), "stream");
  check_all_experts(stream);
  std::printf(failures == 0 ? "all good\n" : "%d FAILED\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace facet::test
