#include "traffic/report.h"

#include <array>
#include <boost/json/array.hpp>
#include <cmath>
#include <fmt/core.h>
#include <string_view>
#include <utility>

#include "base/text.h"

namespace facet {
namespace {

namespace json = boost::json;

constexpr size_t kWidth = 50;

/// A heading, or with an empty one a closing line, in the middle of a rule.
std::string rule(std::string_view heading, char line) {
  const size_t left = (kWidth - heading.size()) / 2;
  return std::string(left, line) + std::string(heading) +
         std::string(kWidth - heading.size() - left, line) + '\n';
}

std::string row(std::string_view name, std::string_view value) {
  return fmt::format("{:<40} {}\n", fmt::format("{}:", name), value);
}
std::string row(std::string_view name, int64_t value) {
  return row(name, fmt::format("{}", value));
}
std::string row(std::string_view name, double value) {
  return row(name, fmt::format("{:.2f}", value));
}

struct SpreadValue {
  std::string_view title;
  double Spread::*value;
};
constexpr std::array<SpreadValue, 6> kValues = {{{"Mean", &Spread::mean},
                                                 {"Median", &Spread::median},
                                                 {"P90", &Spread::p90},
                                                 {"P95", &Spread::p95},
                                                 {"P99", &Spread::p99},
                                                 {"Max", &Spread::max}}};

std::string section(std::string_view heading, std::string_view name, const Spread& spread) {
  std::string text = rule(heading, '-');
  for (const auto& [title, value] : kValues) {
    const std::string label = fmt::format("{} {} (ms)", title, name);
    text += spread.count > 0 ? row(label, spread.*value * 1e3) : row(label, "-");
  }
  return text;
}

std::string counts(const RunStatistics& run) {
  std::string text = row("Successful requests", run.done);
  if (run.failed > 0) text += row("Failed requests", run.failed);
  for (const FailureCount& one : run.failures) {
    text += row("  " + printable(one.failure, 36),
                fmt::format("{}{}", one.count,
                            one.detail.empty() ? "" : " (" + printable(one.detail, 120) + ")"));
  }
  const int64_t begun = run.done + run.failed + run.cut;
  if (run.cut > 0) text += row("Cut short (not counted below)", run.cut);
  if (begun < run.requests) text += row("Not begun", run.requests - begun);
  return text;
}

void add_spread(json::object& out, std::string_view name, const Spread& spread) {
  for (const auto& [title, value] : kValues) {
    const std::string key = fmt::format("{}_{}_ms", ascii_lower(title), name);
    if (spread.count > 0) {
      out[key] = spread.*value * 1e3;
    } else {
      out[key] = nullptr;
    }
  }
}

}  // namespace

std::string report_text(const RunFacts& facts, const RunStatistics& run) {
  const Workload& load = facts.workload;
  std::string text = rule(" Serving Benchmark Result ", '=');
  if (facts.interrupted) text += rule(" interrupted ", ' ');
  text += row("Backend", facts.target) + row("Model", facts.model) + row("Prompts", facts.prompts);
  text += row("Traffic request rate",
              std::isinf(load.request_rate) ? "inf" : fmt::format("{}", load.request_rate));
  text += row("Max request concurrency",
              load.concurrency > 0 ? fmt::format("{}", load.concurrency) : "not set");
  text += counts(run) + row("Benchmark duration (s)", run.duration_s);
  text += row("Total input tokens", run.input_tokens);
  if (run.cached_tokens > 0) text += row("  from the prefix cache", run.cached_tokens);
  text += row("Total generated tokens", run.output_tokens);
  text += row("Request throughput (req/s)", run.per_second(run.done));
  text += row("Input token throughput (tok/s)", run.per_second(run.input_tokens));
  text += row("Output token throughput (tok/s)", run.per_second(run.output_tokens));
  text += row("Peak output token throughput (tok/s)", run.peak_output_tokens_per_second);
  text += row("Peak concurrent requests", run.peak_concurrency);
  text +=
      row("Total token throughput (tok/s)", run.per_second(run.input_tokens + run.output_tokens));
  text += row("Concurrency", run.mean_concurrency);
  text += section("End-to-End Latency", "E2E Latency", run.e2e_s);
  text += section("Time to First Token", "TTFT", run.ttft_s);
  text += section("Time per Output Token (excl. 1st token)", "TPOT", run.tpot_s);
  text += section("Inter-Token Latency", "ITL", run.itl_s);
  return text + rule("", '=');
}

json::object report_json(const RunFacts& facts, const RunStatistics& run) {
  const Workload& load = facts.workload;
  json::array failures;
  for (const FailureCount& one : run.failures) {
    failures.push_back(json::object{
        {"failure", one.failure}, {"count", one.count}, {"example", printable(one.detail)}});
  }
  json::object out;
  out["request_rate"] = std::isinf(load.request_rate) ? json::value() : load.request_rate;
  out["concurrency"] = load.concurrency > 0 ? json::value(load.concurrency) : json::value();
  out["requests"] = run.requests;
  out["completed"] = run.done;
  out["failed"] = run.failed;
  out["cut_short"] = run.cut;
  out["interrupted"] = facts.interrupted;
  out["failures"] = std::move(failures);
  out["duration_s"] = run.duration_s;
  out["input_tokens"] = run.input_tokens;
  out["cached_input_tokens"] = run.cached_tokens;
  out["output_tokens"] = run.output_tokens;
  out["requests_per_second"] = run.per_second(run.done);
  out["input_tokens_per_second"] = run.per_second(run.input_tokens);
  out["output_tokens_per_second"] = run.per_second(run.output_tokens);
  out["total_tokens_per_second"] = run.per_second(run.input_tokens + run.output_tokens);
  out["peak_output_tokens_per_second"] = run.peak_output_tokens_per_second;
  out["peak_concurrency"] = run.peak_concurrency;
  out["mean_concurrency"] = run.mean_concurrency;
  add_spread(out, "ttft", run.ttft_s);
  add_spread(out, "tpot", run.tpot_s);
  add_spread(out, "itl", run.itl_s);
  add_spread(out, "e2e", run.e2e_s);
  return out;
}

}  // namespace facet
