#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/kernel_lines.h"
#include "kernels/backend.h"
#include "model/gemma4/step_cost.h"

namespace facet::cli {

/// One measured kind of step.
struct BenchRow {
  enum class Phase { kDecode, kPrefill };

  Phase phase = Phase::kDecode;
  int64_t batch = 0;    ///< tokens of the step: one for each sequence, or those of the prompt
  int64_t context = 0;  ///< positions of each sequence before the first step
  double median_s = 0;
  double min_s = 0;
  int64_t repeats = 0;
  gemma4::StepCost cost;  ///< the mean over the repeats
  /// Of one more such run, its bytes with those of the experts that were chosen; if asked for.
  std::optional<KernelProfile> kernels = {};

  double tokens_per_second() const { return static_cast<double>(batch) / median_s; }
  double bytes_per_second() const { return static_cast<double>(cost.bytes()) / median_s; }
  /// The time that the machine's own limits leave no way around, over the time taken: bytes at the
  /// read rate, and for prefill the larger of that and FLOPs at the peak.
  double roof_share(const DevicePeaks& peaks) const;
};

/// What the rows were measured on and by.
struct BenchSetup {
  std::string device;
  /// Results differ by them (HW-5 of the checkpoint formats), and times.
  std::vector<KernelLine> kernels;
  DevicePeaks peaks;
};

/// The table for people. `peak_bytes`: the most memory that the measured steps had.
std::string bench_table(const BenchSetup& setup,
                        const std::vector<BenchRow>& rows,
                        int64_t peak_bytes);
/// What each kernel of a row took, as a Markdown table: calls, bytes, time, share of the time that
/// the device's read rate leaves no way around; and how the sum compares to the whole.
std::string kernels_table(const DevicePeaks& peaks, const BenchRow& row);
/// {"device","kernels":[{"kind","format","kernel","why"}],"read_gb_per_s","peak_gflops","rows":
/// [{"phase","batch","context","ms","tokens_per_second","bytes","gb_per_s","roof_share"}]}, one
/// line; ms is the median. A row that was taken apart also has "kernels":[{"kernel","calls",
/// "bytes","us"}].
std::string bench_json(const BenchSetup& setup, const std::vector<BenchRow>& rows);

}  // namespace facet::cli
