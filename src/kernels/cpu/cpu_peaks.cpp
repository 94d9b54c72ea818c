// The machine's own limits, measured on the threads that the ops run on.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"

namespace facet::cpu {
namespace {

// Passes are short and many, so that some are not disturbed by other programs. Reads go round the
// buffer window by window: when one comes again, all the others have been in the caches since.
constexpr int64_t kReadBytes = int64_t{1} << 30;
constexpr int64_t kWindow = int64_t{1} << 27;
constexpr int64_t kReadPiece = int64_t{1} << 20;
constexpr int32_t kReadPasses = 40;
constexpr int64_t kBurstRounds = 50'000;  // about a tenth of a millisecond
constexpr int64_t kBurstsPerThread = 20;
constexpr int32_t kBurstPasses = 100;

/// Seconds of the fastest of the calls body(0), body(1), ….
template <typename Body>
double best_of(int32_t passes, const Body& body) {
  double best = 0;
  for (int32_t pass = 0; pass < passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    body(pass);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = pass == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

}  // namespace

std::optional<DevicePeaks> CpuBackend::measure_peaks() {
  const Buffer memory(kReadBytes);
  // Pages that nothing was written to would all be the same one.
  pool_.parallel_for(kReadBytes, kReadPiece, [&](int64_t begin, int64_t end) {
    std::memset(memory.data() + begin, 1, static_cast<size_t>(end - begin));
  });
  std::atomic<uint64_t> kept{0};
  const double read_s = best_of(kReadPasses, [&](int64_t pass) {
    const std::byte* window = memory.data() + pass % (kReadBytes / kWindow) * kWindow;
    pool_.parallel_for(kWindow, kReadPiece, [&](int64_t begin, int64_t end) {
      kept += kernels_.read(window + begin, end - begin);
    });
  });
  const int64_t bursts = kBurstsPerThread * pool_.threads();
  const double burst_s = best_of(kBurstPasses, [&](int64_t /*pass*/) {
    pool_.parallel_for(bursts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        kept += static_cast<uint64_t>(kernels_.burst(kBurstRounds));
      }
    });
  });
  const int64_t flops = bursts * kBurstRounds * kernels_.burst_flops;
  return DevicePeaks{static_cast<double>(kWindow) / read_s, static_cast<double>(flops) / burst_s};
}

}  // namespace facet::cpu
