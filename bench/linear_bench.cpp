// How close the CPU backend's products come to the machine: bytes of weights per second at one row,
// as a share of a plain read loop in the same run, and multiply-adds per second at many rows.
//
// Usage: linear_bench [threads]

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <random>
#include <vector>

#include "base/worker_pool.h"
#include "kernels/cpu/cpu_backend.h"

namespace facet {
namespace {

constexpr int64_t kRows = 4096;
constexpr int64_t kCols = 2816;
constexpr int64_t kBytes = int64_t{256} << 20;  // of weights, far more than caches hold

struct Format {
  const char* name;
  WeightFormat format;
  DType scale_dtype;
  int32_t group;
};

constexpr Format kFormats[] = {
    {"F32", WeightFormat::kF32, DType::kF32, 0},
    {"BF16", WeightFormat::kBF16, DType::kF32, 0},
    {"F16", WeightFormat::kF16, DType::kF32, 0},
    {"FP8", WeightFormat::kFp8, DType::kBF16, 0},
    {"FP8 block", WeightFormat::kFp8Block, DType::kBF16, 0},
    {"NVFP4", WeightFormat::kNvfp4, DType::kF8E4M3, 16},
    {"INT4 g32", WeightFormat::kInt4Group, DType::kBF16, 32},
    {"INT8 g64", WeightFormat::kInt8Group, DType::kBF16, 64},
};

/// Seconds of one call: the median of several.
template <typename Body>
double median_of(int32_t calls, const Body& body) {
  std::vector<double> seconds;
  for (int32_t i = 0; i < calls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

/// Matrices one after another, so that none is in a cache when its turn comes.
std::vector<WeightMatrix> matrices(const Format& format, Buffer& memory) {
  WeightMatrix w;
  w.format = format.format;
  w.rows = kRows;
  w.cols = kCols;
  w.scale_dtype = format.scale_dtype;
  w.group_size = format.group;
  w.scale_rows = format.format == WeightFormat::kFp8Block ? kRows / 128 : kRows;
  const int64_t codes = kRows * row_bytes(w);
  const int64_t scales = scale_cols(w) == 0 ? 0 : scale_bytes(w);
  const int64_t copies = kBytes / (codes + scales);
  memory = Buffer(copies * (codes + scales));
  std::mt19937 random(1);
  // 0x35 to 0x3e in each upper byte: moderate numbers in every format.
  for (int64_t i = 0; i < memory.bytes(); ++i) {
    memory.data()[i] = std::byte{static_cast<uint8_t>(0x35 + random() % 10)};
  }
  std::vector<WeightMatrix> result;
  for (int64_t i = 0; i < copies; ++i) {
    w.data = memory.data() + i * (codes + scales);
    w.scales = scales > 0 ? w.data + codes : nullptr;
    result.push_back(w);
  }
  return result;
}

void run(int32_t threads) {
  const auto backend = cpu::make_cpu_backend({.threads = threads});
  const DevicePeaks peaks = backend->measure_peaks().value();
  const double rate = peaks.read_bytes_per_second;
  fmt::print("{}, plain reads {:.1f} GB/s\n", backend->describe(), rate * 1e-9);
  fmt::print("{:10} {:>12} {:>8} {:>12} {:>12} {:>12}\n", "format", "T=1 GB/s", "share", "T=4 GF/s",
             "T=64 GF/s", "T=512 GF/s");
  for (const Format& format : kFormats) {
    Buffer memory;
    const std::vector<WeightMatrix> all = matrices(format, memory);
    const auto pass = [&](int64_t tokens, size_t count) {
      std::vector<float> x(static_cast<size_t>(tokens * kCols), 0.5F);
      std::vector<float> out(static_cast<size_t>(tokens * kRows));
      const TensorView x_view(x.data(), DType::kF32, {tokens, kCols});
      const TensorView out_view(out.data(), DType::kF32, {tokens, kRows});
      const double time = median_of(5, [&] {
        for (size_t i = 0; i < count; ++i) backend->linear(out_view, x_view, all[i]);
      });
      return time / static_cast<double>(count);
    };
    const auto flops = [&](int64_t tokens, size_t count) {
      return 2.0 * static_cast<double>(tokens * kRows * kCols) / pass(tokens, count) * 1e-9;
    };
    const double bytes = static_cast<double>(stored_bytes(all.front())) / pass(1, all.size());
    fmt::print("{:10} {:12.1f} {:8.2f} {:12.0f} {:12.0f} {:12.0f}\n", format.name, bytes * 1e-9,
               bytes / rate, flops(4, 4), flops(64, 2), flops(512, 1));
  }
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  facet::run(argc > 1 ? std::atoi(argv[1]) : 0);
  return 0;
}
