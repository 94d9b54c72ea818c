// The machine's own limits, measured on the threads that the ops run on.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "kernels/cpu/cpu_backend.h"

namespace facet::cpu {
namespace {

// Passes are short and many. Reads go round the buffer window by window: when one comes again, all
// the others have been in the caches since. Their rate is the median of the passes: in a virtual
// machine single ones come out faster than the memory is. Bursts take no memory; their fastest is
// the one that nothing disturbed.
constexpr int64_t kReadBytes = int64_t{1} << 30;
constexpr int64_t kWindow = int64_t{1} << 27;
constexpr int64_t kReadPiece = int64_t{1} << 20;
constexpr int32_t kReadPasses = 40;
constexpr int64_t kBurstRounds = 50'000;  // about a tenth of a millisecond
constexpr int64_t kBurstsPerThread = 20;
constexpr int32_t kBurstPasses = 100;

/// Seconds of the calls body(0), body(1), …, in ascending order.
template <typename Body>
std::vector<double> sorted_seconds(int32_t passes, const Body& body) {
  std::vector<double> seconds;
  for (int32_t pass = 0; pass < passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    body(pass);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

}  // namespace

std::optional<DevicePeaks> CpuBackend::measure_peaks() {
  const Buffer memory(kReadBytes);
  // Pages that nothing was written to would all be the same one.
  pool_.parallel_for(kReadBytes, kReadPiece, [&](int64_t begin, int64_t end) {
    std::memset(memory.data() + begin, 1, static_cast<size_t>(end - begin));
  });
  std::atomic<uint64_t> kept{0};
  const std::vector<double> read_s = sorted_seconds(kReadPasses, [&](int64_t pass) {
    const std::byte* window = memory.data() + pass % (kReadBytes / kWindow) * kWindow;
    pool_.parallel_for(kWindow, kReadPiece, [&](int64_t begin, int64_t end) {
      kept += kernels_.read(window + begin, end - begin);
    });
  });
  const int64_t bursts = kBurstsPerThread * pool_.threads();
  const std::vector<double> burst_s = sorted_seconds(kBurstPasses, [&](int64_t /*pass*/) {
    pool_.parallel_for(bursts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        kept += static_cast<uint64_t>(kernels_.burst(kBurstRounds));
      }
    });
  });
  const int64_t flops = bursts * kBurstRounds * kernels_.burst_flops;
  return DevicePeaks{static_cast<double>(kWindow) / read_s[read_s.size() / 2],
                     static_cast<double>(flops) / burst_s.front()};
}

}  // namespace facet::cpu
