#include "cli/bench_load.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <fmt/chrono.h>
#include <unistd.h>

#include "base/error.h"
#include "base/partial_file.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/progress.h"
#include "commit.h"
#include "traffic/plot.h"
#include "traffic/prompts.h"

namespace facet::cli {
namespace {

namespace json = boost::json;

constexpr int32_t kRequestsPerPlace = 4;
constexpr uint64_t kWarmUpSeed = uint64_t{1} << 40;  // apart from those of runs

Workload workload_of(const LoadOptions& o) {
  Workload load = preset(o.preset);
  if (o.request_rate) load.concurrency = 0;
  const auto take = [](auto& field, const auto& given) {
    if (given) field = *given;
  };
  take(load.requests, o.requests);
  take(load.input_len, o.input_len);
  take(load.output_len, o.output_len);
  take(load.range_ratio, o.range_ratio);
  take(load.seed, o.seed);
  take(load.shared_prefix, o.shared_prefix);
  take(load.request_rate, o.request_rate);
  take(load.concurrency, o.concurrency);
  return load;
}

std::string chat_of(const std::string& text) {
  return json::serialize(json::array{json::object{{"role", "user"}, {"content", text}}});
}

std::string utc_now() {
  return fmt::format(
      "{:%FT%TZ}",
      fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

/// Percentiles in milliseconds of each result's `spread`.
template <typename Results, typename SpreadOf>
std::vector<Curve> percentile_curves(const Results& results, const SpreadOf& spread_of) {
  std::vector<Curve> curves = {{"median", {}}, {"p90", {}}, {"p99", {}}};
  for (const auto& result : results) {
    const Spread& spread = spread_of(result.statistics);
    const auto add = [&](size_t curve, double value) {
      curves[curve].y.push_back(spread.count > 0 ? value * 1e3 : std::nan(""));
    };
    add(0, spread.median);
    add(1, spread.p90);
    add(2, spread.p99);
  }
  return curves;
}

}  // namespace

LoadBench::LoadBench(const LoadOptions& options)
    : options_(options), workload_(workload_of(options)) {
  if (!options.prompts.empty()) {
    file_ = read_prompts(options.prompts, workload_.output_len);
    const int64_t wanted = options.requests.value_or(static_cast<int32_t>(file_.size()));
    if (wanted > std::ssize(file_)) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--num-prompts {}: the file has {} prompts", wanted, file_.size()),
                  options.prompts);
    }
    workload_.requests = static_cast<int32_t>(wanted);
  }
  for (const std::string& file : {options.json, options.plot}) {
    if (!file.empty()) check_writable(file);
  }
}

std::vector<Workload> LoadBench::levels() const {
  std::vector<int32_t> sweep = options_.sweep;
  if (sweep.empty() && options_.sweep_rates.empty() && !options_.plot.empty())
    sweep = {1, 2, 4, 8, 16};
  std::vector<double> rates = options_.sweep_rates;
  std::sort(sweep.begin(), sweep.end());
  std::sort(rates.begin(), rates.end());
  std::vector<Workload> levels;
  for (const int32_t concurrency : sweep) {
    Workload& level = levels.emplace_back(workload_);
    level.concurrency = concurrency;
    if (makes_prompts()) level.requests = std::max(level.requests, kRequestsPerPlace * concurrency);
  }
  for (const double rate : rates) {
    Workload& level = levels.emplace_back(workload_);
    level.request_rate = rate;
    level.concurrency = options_.concurrency.value_or(0);
  }
  if (levels.empty()) levels.push_back(workload_);
  return levels;
}

std::vector<PlannedRequest> LoadBench::planned(const Workload& workload,
                                               const LoadTarget& target,
                                               uint64_t prompt_seed) const {
  std::vector<PlannedRequest> requests;
  if (!makes_prompts()) {
    for (int32_t i = 0; i < workload.requests; ++i) {
      const FilePrompt& prompt = file_[static_cast<size_t>(i)];
      PlannedRequest& one = requests.emplace_back();
      one.max_tokens = prompt.max_tokens;
      if (prompt.is_chat()) {
        one.messages = prompt.messages;
      } else if (target.form == PromptForm::kChat) {
        one.messages = chat_of(prompt.text);
      } else {
        one.text = prompt.text;
      }
    }
    return requests;
  }
  PromptMaker maker(*target.tokenizer, prompt_seed, workload.shared_prefix);
  for (const RequestLengths& lengths : request_lengths(workload)) {
    PlannedRequest& one = requests.emplace_back();
    one.max_tokens = lengths.output;
    if (target.form == PromptForm::kChat) {
      one.messages = chat_of(maker.text(lengths.input));
    } else {
      one.ids = maker.ids(lengths.input);
    }
  }
  return requests;
}

LoadRun LoadBench::load_run(const Workload& workload,
                            const LoadTarget& target,
                            uint64_t prompt_seed) const {
  LoadRun run;
  run.requests = planned(workload, target, prompt_seed);
  run.arrivals = arrival_times(workload);
  run.concurrency = workload.concurrency;
  run.answer_end = options_.stop_at_end ? AnswerEnd::kAtEndToken : AnswerEnd::kAtLength;
  return run;
}

void LoadBench::warm_up(const LoadTarget& target) const {
  if (options_.warm_ups == 0) return;
  Workload workload = workload_;
  workload.requests = options_.warm_ups;
  workload.request_rate = Workload().request_rate;
  LoadRun run;
  if (makes_prompts()) {
    run = load_run(workload, target, kWarmUpSeed + workload.seed);
  } else {
    // The file's own prompts would be found in the prefix cache afterwards.
    PlannedRequest hello;
    hello.max_tokens = 8;
    (target.form == PromptForm::kChat ? hello.messages : hello.text) =
        target.form == PromptForm::kChat ? chat_of("Hello") : "Hello";
    run.requests.assign(static_cast<size_t>(options_.warm_ups), hello);
    run.arrivals = arrival_times(workload);
    run.concurrency = workload.concurrency;
  }
  const RunRecords records = target.run(std::move(run));
  if (records.interrupted) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  for (const RequestRecord& request : records.requests) {
    if (request.outcome != Outcome::kFailed) continue;
    throw Error(ErrorCode::kIo,
                fmt::format("a warm-up request failed: {}: {}", printable(request.failure),
                            printable(request.detail)),
                target.name);
  }
}

LoadBench::Result LoadBench::measure(const Workload& workload,
                                     const LoadTarget& target,
                                     uint64_t prompt_seed) const {
  LoadRun run = load_run(workload, target, prompt_seed);
  std::string what = std::isinf(workload.request_rate)
                         ? std::string("run")
                         : fmt::format("{} requests/s", workload.request_rate);
  if (workload.concurrency > 0) what += fmt::format(", {} at a time", workload.concurrency);
  Progress progress(what, workload.requests, Progress::Unit::kRequests);
  run.on_progress = [&](int64_t ended) { progress.update(ended); };
  const RunRecords records = target.run(std::move(run));
  progress.finish();
  Result result;
  result.facts = {target.name,        target.model, target.fingerprint,
                  prompts_in_words(), workload,     records.interrupted};
  result.statistics = statistics_of(records);
  return result;
}

std::string LoadBench::prompts_in_words() const {
  if (!makes_prompts()) return fmt::format("{} lines of {}", workload_.requests, options_.prompts);
  const auto range = [&](int32_t length) {
    const int32_t least = least_length(length, workload_.range_ratio);
    return least == length ? fmt::format("{}", length) : fmt::format("{} to {}", least, length);
  };
  std::string words = fmt::format("random, {} tokens in, {} out", range(workload_.input_len),
                                  range(workload_.output_len));
  if (workload_.shared_prefix > 0) words += fmt::format(", {} shared", workload_.shared_prefix);
  return fmt::format("{}, seed {}", words, workload_.seed);
}

void LoadBench::run(const LoadTarget& target) const {
  warm_up(target);
  std::vector<Result> results;
  uint64_t prompt_seed = workload_.seed;
  for (const Workload& level : levels()) {
    // Other prompts in each run, or the prefix cache would know them.
    results.push_back(measure(level, target, prompt_seed));
    prompt_seed += uint64_t{1} << 32;
    fmt::print("{}\n", report_text(results.back().facts, results.back().statistics));
    std::fflush(stdout);
    if (results.back().facts.interrupted) break;
  }
  if (!options_.json.empty()) write_json(target, results);
  if (!options_.plot.empty()) write_plot(target, results);
  if (results.back().facts.interrupted) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  int64_t failed = 0;
  int64_t requests = 0;
  for (const Result& result : results) {
    failed += result.statistics.failed;
    requests += result.statistics.requests;
  }
  if (failed > 0) {
    throw Error(ErrorCode::kIo, fmt::format("{} of {} requests failed", failed, requests),
                target.name);
  }
}

void LoadBench::write_json(const LoadTarget& target, const std::vector<Result>& results) const {
  json::object out{
      {"command", command_line()},
      {"version", FACET_VERSION},
      {"commit", FACET_COMMIT},
      {"date", utc_now()},
      {"target", target.name},
      {"model", target.model},
      {"fingerprint", target.fingerprint.empty() ? json::value() : json::value(target.fingerprint)},
      {"kernels", target.kernels.empty() ? json::value() : json::value(target.kernels)},
      {"prompts", prompts_in_words()},
  };
  if (options_.sweep.empty() && options_.sweep_rates.empty() && options_.plot.empty()) {
    for (const auto& member : report_json(results.front().facts, results.front().statistics))
      out.insert(member);
  } else {
    json::array levels;
    for (const Result& result : results)
      levels.push_back(report_json(result.facts, result.statistics));
    out["levels"] = std::move(levels);
  }
  write_file(options_.json, json::serialize(out) + '\n');
}

void LoadBench::write_plot(const LoadTarget& target, const std::vector<Result>& results) const {
  const bool by_rate = !options_.sweep_rates.empty();
  Plot plot;
  plot.title = fmt::format("Latency over load: {}", printable(target.model, 60));
  plot.subtitle = fmt::format("{}; {}; {}", printable(target.name, 60),
                              printable(prompts_in_words(), 80), utc_now());
  plot.x_title = by_rate ? "requests per second" : "requests at the same time";
  Curve rate{"output tokens/s", {}};
  for (const Result& result : results) {
    const Workload& workload = result.facts.workload;
    plot.x.push_back(by_rate ? workload.request_rate : workload.concurrency);
    rate.y.push_back(result.statistics.per_second(result.statistics.output_tokens));
  }
  plot.panels = {
      {"time to first token, ms",
       percentile_curves(results, [](const RunStatistics& s) { return s.ttft_s; })},
      {"time per output token, ms",
       percentile_curves(results, [](const RunStatistics& s) { return s.tpot_s; })},
      {"output tokens per second", {std::move(rate)}},
  };
  write_file(options_.plot, svg(plot));
}

}  // namespace facet::cli
