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

template <typename Body>
double seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of the best of several calls.
template <typename Body>
double best_of(int32_t calls, const Body& body) {
  double best = seconds(body);
  for (int32_t i = 1; i < calls; ++i) best = std::min(best, seconds(body));
  return best;
}

/// Bytes per second of all threads that only read and add.
double read_rate(WorkerPool& pool, const std::vector<uint64_t>& memory) {
  std::atomic<uint64_t> total{0};
  const auto words = static_cast<int64_t>(memory.size());
  const double best = best_of(5, [&] {
    pool.parallel_for(words, 1 << 15, [&](int64_t begin, int64_t end) {
      uint64_t sums[8] = {};
      for (int64_t i = begin; i + 8 <= end; i += 8) {
        for (int64_t j = 0; j < 8; ++j) sums[j] += memory[static_cast<size_t>(i + j)];
      }
      for (const uint64_t sum : sums) total += sum;
    });
  });
  return static_cast<double>(words) * 8.0 / best + static_cast<double>(total & 1u) * 1e-30;
}

/// `copies` matrices one after another, so that none is in a cache when its turn comes.
std::vector<WeightMatrix> matrices(const Format& format,
                                   int64_t copies,
                                   std::vector<std::byte>& memory) {
  WeightMatrix w;
  w.format = format.format;
  w.rows = kRows;
  w.cols = kCols;
  w.scale_dtype = format.scale_dtype;
  w.group_size = format.group;
  w.scale_rows = format.format == WeightFormat::kFp8Block ? kRows / 128 : kRows;
  const int64_t codes = kRows * row_bytes(w);
  const int64_t scales = scale_cols(w) == 0 ? 0 : scale_bytes(w);
  memory.resize(static_cast<size_t>(copies * (codes + scales)));
  std::mt19937 random(1);
  // 0x35 to 0x3e in each upper byte: moderate numbers in every format.
  for (std::byte& b : memory) b = std::byte{static_cast<uint8_t>(0x35 + random() % 10)};
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
  double rate = 0.0;
  {
    WorkerPool pool(threads);
    const std::vector<uint64_t> memory(32 << 20, 1);
    rate = read_rate(pool, memory);
  }
  fmt::print("{}, plain reads {:.1f} GB/s\n", backend->describe(), rate * 1e-9);
  fmt::print("{:10} {:>12} {:>8} {:>12} {:>12} {:>12}\n", "format", "T=1 GB/s", "share", "T=4 GF/s",
             "T=64 GF/s", "T=512 GF/s");
  for (const Format& format : kFormats) {
    std::vector<std::byte> memory;
    const std::vector<WeightMatrix> all = matrices(format, 8, memory);
    const auto pass = [&](int64_t tokens, size_t count) {
      std::vector<float> x(static_cast<size_t>(tokens * kCols), 0.5F);
      std::vector<float> out(static_cast<size_t>(tokens * kRows));
      const TensorView x_view(x.data(), DType::kF32, {tokens, kCols});
      const TensorView out_view(out.data(), DType::kF32, {tokens, kRows});
      const double best = best_of(3, [&] {
        for (size_t i = 0; i < count; ++i) backend->linear(out_view, x_view, all[i]);
      });
      return best / static_cast<double>(count);
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
