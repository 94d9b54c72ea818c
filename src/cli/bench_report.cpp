#include "cli/bench_report.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include "base/text.h"

namespace facet::cli {
namespace {

const char* name_of(BenchRow::Phase phase) {
  return phase == BenchRow::Phase::kDecode ? "decode" : "prefill";
}

}  // namespace

double BenchRow::roof_share(const DevicePeaks& peaks) const {
  const double reading = static_cast<double>(cost.bytes()) / peaks.read_bytes_per_second;
  const double computing = cost.flops / peaks.flops_per_second;
  return (phase == Phase::kDecode ? reading : std::max(reading, computing)) / median_s;
}

std::string bench_table(std::string_view device,
                        const DevicePeaks& peaks,
                        const std::vector<BenchRow>& rows,
                        int64_t peak_bytes) {
  std::string text = fmt::format(
      "device       {}\nreads        {:.1f} GB/s (plain loads of a 1 GiB buffer, all threads)\n"
      "multiplies   {:.1f} GFLOP/s (float32 multiply-adds in registers, all threads)\n\n"
      "{:<8}{:>6}{:>9}{:>12}{:>12}{:>6}{:>10}{:>10}{:>8}{:>10}{:>7}\n",
      device, peaks.read_bytes_per_second * 1e-9, peaks.flops_per_second * 1e-9, "phase", "batch",
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

std::string bench_json(std::string_view device,
                       const DevicePeaks& peaks,
                       const std::vector<BenchRow>& rows) {
  boost::json::array list;
  for (const BenchRow& row : rows) {
    list.push_back(boost::json::object{
        {"phase", name_of(row.phase)},
        {"batch", row.batch},
        {"context", row.context},
        {"ms", row.median_s * 1e3},
        {"tokens_per_second", row.tokens_per_second()},
        {"bytes", row.cost.bytes()},
        {"gb_per_s", row.bytes_per_second() * 1e-9},
        {"roof_share", row.roof_share(peaks)},
    });
  }
  return boost::json::serialize(
      boost::json::object{{"device", device},
                          {"read_gb_per_s", peaks.read_bytes_per_second * 1e-9},
                          {"peak_gflops", peaks.flops_per_second * 1e-9},
                          {"rows", std::move(list)}});
}

}  // namespace facet::cli
