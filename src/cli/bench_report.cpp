#include "cli/bench_report.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <string_view>

#include "base/text.h"

namespace facet::cli {
namespace {

const char* name_of(BenchRow::Phase phase) {
  return phase == BenchRow::Phase::kDecode ? "decode" : "prefill";
}

boost::json::array profile_json(const KernelProfile& profile) {
  boost::json::array list;
  for (const KernelTime& kernel : profile.kernels) {
    list.push_back(boost::json::object{{"kernel", kernel.kernel},
                                       {"calls", kernel.calls},
                                       {"bytes", kernel.bytes},
                                       {"us", kernel.microseconds}});
  }
  return list;
}

std::string kernel_line(std::string_view name, const std::string& calls, int64_t bytes, double us) {
  return fmt::format("| {:<30} | {:>5} | {:>9.2f} | {:>9.1f} |", name, calls,
                     static_cast<double>(bytes) * 1e-6, us);
}

}  // namespace

double BenchRow::roof_share(const DevicePeaks& peaks) const {
  const double reading = static_cast<double>(cost.bytes()) / peaks.read_bytes_per_second;
  const double computing = cost.flops / peaks.flops_per_second;
  return (phase == Phase::kDecode ? reading : std::max(reading, computing)) / median_s;
}

std::string bench_table(const BenchSetup& setup,
                        const std::vector<BenchRow>& rows,
                        int64_t peak_bytes) {
  const DevicePeaks& peaks = setup.peaks;
  std::string text = fmt::format("device       {}\n", setup.device);
  for (const KernelLine& line : setup.kernels)
    text += fmt::format("{:<13}{}\n", line.kind, line.choice.kernel);
  text += fmt::format(
      "reads        {:.1f} GB/s (plain loads of a 1 GiB buffer, all threads)\n"
      "multiplies   {:.1f} GFLOP/s (float32 multiply-adds in registers, all threads)\n\n"
      "{:<8}{:>6}{:>9}{:>12}{:>12}{:>6}{:>10}{:>10}{:>8}{:>10}{:>7}\n",
      peaks.read_bytes_per_second * 1e-9, peaks.flops_per_second * 1e-9, "phase", "batch",
      "context", "median ms", "min ms", "runs", "tok/s", "bytes", "GB/s", "GFLOP/s", "roof");
  for (const BenchRow& row : rows) {
    text += fmt::format(
        "{:<8}{:>6}{:>9}{:>12.3f}{:>12.3f}{:>6}{:>10.1f}{:>10}{:>8.2f}{:>10.1f}{:>6.0f}%\n",
        name_of(row.phase), row.batch, row.context, row.median_s * 1e3, row.min_s * 1e3,
        row.repeats, row.tokens_per_second(), human_bytes(row.cost.bytes()),
        row.bytes_per_second() * 1e-9, row.cost.flops / row.median_s * 1e-9,
        row.roof_share(peaks) * 100);
  }
  return text +
         fmt::format("\npeak memory  {} (mapped weights included)\n", human_bytes(peak_bytes));
}

std::string kernels_table(const DevicePeaks& peaks, const BenchRow& row) {
  std::string text = fmt::format(
      "\n{}, batch {}, context {}: {:.1f} us\n\n"
      "| {:<30} | {:>5} | {:>9} | {:>9} | {:>7} | {:>5} |\n| --- | --- | --- | --- | --- | --- |\n",
      name_of(row.phase), row.batch, row.context, row.median_s * 1e6, "kernel", "calls", "MB", "us",
      "us each", "roof");
  KernelTime sum;
  const auto share = [&](const KernelTime& kernel) {
    return static_cast<double>(kernel.bytes) / peaks.read_bytes_per_second /
           (kernel.microseconds * 1e-6) * 100;
  };
  for (const KernelTime& kernel : row.kernels->kernels) {
    text +=
        kernel_line(kernel.kernel, std::to_string(kernel.calls), kernel.bytes, kernel.microseconds);
    text += fmt::format(" {:>7.2f} | {:>3.0f} % |\n",
                        kernel.microseconds / static_cast<double>(kernel.calls), share(kernel));
    sum.calls += kernel.calls;
    sum.bytes += kernel.bytes;
    sum.microseconds += kernel.microseconds;
  }
  text += kernel_line("sum", std::to_string(sum.calls), sum.bytes, sum.microseconds);
  text += fmt::format(" {:>7} | {:>3.0f} % |\n", "", share(sum));
  const double whole = row.median_s * 1e6;
  text += kernel_line("whole step less the sum", "", 0, whole - sum.microseconds);
  return text + fmt::format(
                    " {:>7} | {:>5} |\n\nA kernel that does nothing takes {:.2f} us here. Kernels "
                    "are timed one after another;\n"
                    "what the whole has less than their sum, it saves by not keeping them apart.\n",
                    "", "", row.kernels->empty_launch_us);
}

std::string bench_json(const BenchSetup& setup, const std::vector<BenchRow>& rows) {
  const DevicePeaks& peaks = setup.peaks;
  boost::json::array list;
  for (const BenchRow& row : rows) {
    boost::json::object line = {
        {"phase", name_of(row.phase)},
        {"batch", row.batch},
        {"context", row.context},
        {"ms", row.median_s * 1e3},
        {"tokens_per_second", row.tokens_per_second()},
        {"bytes", row.cost.bytes()},
        {"gb_per_s", row.bytes_per_second() * 1e-9},
        {"roof_share", row.roof_share(peaks)},
    };
    if (row.kernels) line["kernels"] = profile_json(*row.kernels);
    list.push_back(std::move(line));
  }
  return boost::json::serialize(
      boost::json::object{{"device", setup.device},
                          {"kernels", kernels_json(setup.kernels)},
                          {"read_gb_per_s", peaks.read_bytes_per_second * 1e-9},
                          {"peak_gflops", peaks.flops_per_second * 1e-9},
                          {"rows", std::move(list)}});
}

}  // namespace facet::cli
