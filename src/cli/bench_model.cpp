// One step at a time, as the engine runs it, without a scheduler.

#include "cli/bench_model.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fmt/core.h>
#include <memory>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/partial_file.h"
#include "base/process.h"
#include "cli/bench_report.h"
#include "cli/kernel_lines.h"
#include "cli/session.h"
#include "engine/filled_context.h"

namespace facet::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kWarmUps = 2;
constexpr int32_t kLeastRepeats = 5;
constexpr int32_t kMostRepeats = 100;
constexpr int32_t kCounted = 5;     // runs of which the bytes are counted, where that takes time
constexpr int32_t kTakenApart = 1;  // runs for the times of kernels

struct Options {
  ModelOptions model;
  std::vector<int32_t> decode = {1, 2, 4, 8};
  std::vector<int32_t> context = {1024};
  std::vector<int32_t> prefill = {128, 512};
  double seconds = 2.0;
  bool kernels = false;
  std::string json;
};

int32_t largest(const std::vector<int32_t>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

/// Positions that a sequence of the benchmark reaches.
int32_t positions_of(const Options& options) {
  const int32_t decode =
      options.decode.empty() ? 0 : largest(options.context) + kWarmUps + kMostRepeats + kTakenApart;
  return std::max(decode, largest(options.prefill));
}

/// Times steps and counts what they cost.
class Bench {
 public:
  Bench(Session& session, DType kv_dtype, const Options& options)
      : session_(session),
        kv_dtype_(kv_dtype),
        seconds_(options.seconds),
        kernels_(options.kernels),
        experts_(session.config()) {}

  BenchRow decode(int32_t batch, int32_t context) {
    KvCache& cache = session_.stepper().cache();
    std::vector<CacheSlot> slots;
    for (int32_t s = 0; s < batch; ++s) {
      slots.push_back(cache.open());
      fill_context(cache, slots.back(), session_.backend(), context, session_.max_rows());
    }
    BenchRow row = measure([&] { decode_step(slots); });
    if (kernels_) row.kernels = take_apart([&] { decode_step(slots); });
    for (const CacheSlot slot : slots) cache.close(slot);
    row.phase = BenchRow::Phase::kDecode;
    row.batch = batch;
    row.context = context;
    return row;
  }

  BenchRow prefill(int32_t tokens) {
    BenchRow row = measure([&] { prefill_steps(tokens); });
    if (kernels_) row.kernels = take_apart([&] { prefill_steps(tokens); });
    row.phase = BenchRow::Phase::kPrefill;
    row.batch = tokens;
    return row;
  }

 private:
  /// Runs `once`, which adds to seconds_now_ and cost_now_, until time is up.
  template <typename Body>
  BenchRow measure(const Body& once) {
    counting_ = false;
    for (int32_t i = 0; i < kWarmUps; ++i) once();
    int64_t counted = 0;
    std::vector<double> times;
    gemma4::StepCost sum;
    double spent = 0;
    while (std::ssize(times) < kMostRepeats &&
           (std::ssize(times) < kLeastRepeats || spent < seconds_)) {
      seconds_now_ = 0;
      cost_now_ = {};
      counting_ = watches() || counted < kCounted;
      once();
      times.push_back(seconds_now_);
      spent += seconds_now_;
      if (counting_) ++counted;
      sum.weight_bytes += cost_now_.weight_bytes;
      sum.kv_bytes += cost_now_.kv_bytes;
      sum.flops += cost_now_.flops;
    }
    std::sort(times.begin(), times.end());
    const auto count = std::ssize(times);
    BenchRow row;
    row.median_s =
        (times[static_cast<size_t>((count - 1) / 2)] + times[static_cast<size_t>(count / 2)]) / 2;
    row.min_s = times.front();
    row.repeats = count;
    row.cost = {sum.weight_bytes / counted, sum.kv_bytes / counted,
                sum.flops / static_cast<double>(counted)};
    return row;
  }

  /// The kernels of one more run of `once`, their bytes with those of the experts it chose.
  template <typename Body>
  KernelProfile take_apart(const Body& once) {
    counting_ = true;
    chosen_sum_ = 0;
    steps_ = 0;
    KernelProfile profile = session_.backend().profile(once).value();
    const double experts = steps_ == 0 ? 0 : chosen_sum_ / steps_;
    for (KernelTime& kernel : profile.kernels) {
      kernel.bytes += static_cast<int64_t>(static_cast<double>(kernel.expert_bytes) * experts);
      kernel.expert_bytes = 0;
    }
    return profile;
  }

  /// One more token for every sequence. The contexts grow by it, and the cost with them.
  void decode_step(const std::vector<CacheSlot>& slots) {
    const std::vector<int32_t> ids = random_ids(slots.size());
    std::vector<SequenceStep> steps;
    for (size_t s = 0; s < slots.size(); ++s) {
      steps.push_back({slots[s], std::span(ids).subspan(s, 1), LogitRows::kLast});
    }
    run(steps);
  }

  void prefill_steps(int32_t tokens) {
    const std::vector<int32_t> ids = random_ids(static_cast<size_t>(tokens));
    const CacheSlot slot = session_.stepper().cache().open();
    const auto chunk = static_cast<size_t>(session_.max_rows());
    for (size_t at = 0; at < ids.size(); at += chunk) {
      const size_t count = std::min(chunk, ids.size() - at);
      const bool last = at + count == ids.size();
      run({{slot, std::span(ids).subspan(at, count), last ? LogitRows::kLast : LogitRows::kNone}});
    }
    session_.stepper().cache().close(slot);
  }

  void run(const std::vector<SequenceStep>& steps) {
    KvCache& cache = session_.stepper().cache();
    std::vector<gemma4::SequenceShape> shapes;
    int64_t logit_rows = 0;
    for (const SequenceStep& step : steps) {
      shapes.push_back({std::ssize(step.ids), cache.length(step.slot)});
      if (step.logits == LogitRows::kLast) ++logit_rows;
      if (!cache.reserve(step.slot, static_cast<int32_t>(step.ids.size()))) {
        throw Error(ErrorCode::kInternal, "the KV cache is smaller than planned");
      }
    }
    experts_.clear();
    const auto start = Clock::now();
    if (watches()) {
      session_.stepper().run(steps, &experts_);
    } else {
      session_.stepper().run_top(steps);  // as the engine does
    }
    seconds_now_ += std::chrono::duration<double>(Clock::now() - start).count();
    if (!counting_) return;
    if (!watches()) count_experts(steps);
    chosen_sum_ += experts_.chosen_per_layer();
    ++steps_;
    const gemma4::StepCost cost = gemma4::step_cost(session_.config(), session_.model().weights(),
                                                    kv_dtype_, shapes, logit_rows, experts_);
    cost_now_.weight_bytes += cost.weight_bytes;
    cost_now_.kv_bytes += cost.kv_bytes;
    cost_now_.flops += cost.flops;
  }

  /// Whether a step may be watched while it is timed. On a device that takes longer than the step:
  /// there its experts are counted when it is done once more.
  bool watches() { return session_.backend().allocator().device == Device::kHost; }

  /// Does a step again, for experts_.
  void count_experts(const std::vector<SequenceStep>& steps) {
    KvCache& cache = session_.stepper().cache();
    for (const SequenceStep& step : steps) {
      const auto rows = static_cast<int32_t>(step.ids.size());
      cache.rewind(step.slot, cache.length(step.slot) - rows);
      if (!cache.reserve(step.slot, rows))
        throw Error(ErrorCode::kInternal, "the KV cache is smaller than planned");
    }
    session_.stepper().run(steps, &experts_);
  }

  /// Every token is drawn anew, so that routing differs from step to step.
  std::vector<int32_t> random_ids(size_t count) {
    std::uniform_int_distribution<int32_t> any(0, session_.config().vocab_size - 1);
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = any(random_);
    return ids;
  }

  Session& session_;
  const DType kv_dtype_;
  const double seconds_;
  const bool kernels_;
  gemma4::ExpertCounter experts_;
  std::mt19937 random_{1};
  bool counting_ = false;  // of what a run moves and computes
  double seconds_now_ = 0;
  gemma4::StepCost cost_now_;
  double chosen_sum_ = 0;  // experts a layer, of steps_ steps
  int32_t steps_ = 0;
};

void say(const BenchRow& row) {
  const bool decode = row.phase == BenchRow::Phase::kDecode;
  print_note("{} {} token{}, context {}: {:.3f} ms\n", decode ? "decode" : "prefill", row.batch,
             row.batch == 1 ? "" : "s", row.context, row.median_s * 1e3);
}

void check_context(const Options& options, const Session& session) {
  const int32_t positions = positions_of(options);
  if (positions <= session.max_positions()) return;
  const bool decode = positions > largest(options.prefill);
  throw Error(ErrorCode::kUsage, fmt::format("{} {}: needs {} positions, the model's context is {}",
                                             decode ? "--context" : "--prefill",
                                             decode ? largest(options.context) : positions,
                                             positions, session.max_positions()));
}

void bench_model(Options options) {
  if (options.model.backend == "ref") {
    throw Error(ErrorCode::kUsage, "--backend ref: is not made for speed, wanted auto or cpu");
  }
  std::erase(options.decode, 0);
  std::erase(options.prefill, 0);
  if (options.decode.empty() && options.prefill.empty()) {
    throw Error(ErrorCode::kUsage, "--decode 0 --prefill 0: nothing is left to time");
  }
  if (!options.json.empty()) check_writable(options.json);
  const int32_t sequences = std::max(1, largest(options.decode));
  options.model.prefill_chunk = std::max(options.model.prefill_chunk, sequences);
  Session session(options.model, {.max_logit_rows = sequences,
                                  .positions = positions_of(options),
                                  .sequences = sequences,
                                  .memory_flags = "--context or --decode"});
  check_context(options, session);
  if (options.kernels && !session.backend().profile([] {})) {
    throw Error(ErrorCode::kUsage, fmt::format("--kernels: {} cannot take steps apart, cuda can",
                                               session.backend().describe()));
  }
  session.warm_up();
  Bench bench(session, kv_dtype(options.model, session.quant()), options);
  std::vector<BenchRow> rows;
  for (const int32_t context : options.context) {
    for (const int32_t batch : options.decode) {
      rows.push_back(bench.decode(batch, context));
      say(rows.back());
    }
  }
  for (const int32_t tokens : options.prefill) {
    rows.push_back(bench.prefill(tokens));
    say(rows.back());
  }
  const int64_t peak_bytes = peak_resident_bytes();  // before the buffer that reads are measured on
  const std::optional<DevicePeaks> peaks = session.backend().measure_peaks();
  if (!peaks) {
    throw Error(ErrorCode::kDevice, "has no measure of what the device could do",
                std::string(session.backend().describe()));
  }
  const BenchSetup setup = {
      std::string(session.backend().describe()),
      kernel_lines(session.config(), session.model().weights(), activation_of(session.config()),
                   kv_dtype(options.model, session.quant()), session.backend()),
      *peaks};
  fmt::print("{}", bench_table(setup, rows, peak_bytes));
  for (const BenchRow& row : rows) {
    if (row.kernels) fmt::print("{}", kernels_table(*peaks, row));
  }
  if (!options.json.empty()) {
    write_file(options.json, bench_json(setup, rows) + '\n');
  }
}

}  // namespace

void add_bench_model(CLI::App& bench, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = bench.add_subcommand(
      "model", "Time single steps of a model against what this machine could do at best");
  add_model_options(*command, options->model);
  command
      ->add_option("--decode", options->decode,
                   "Sequences that get one token each in a step, as a list; 0: no such rows")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command
      ->add_option("--context", options->context,
                   "Tokens each of them has read before (made up, not computed), as a list")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--prefill", options->prefill,
                   "Tokens of a prompt, in steps of --prefill-chunk, as a list; 0: no such rows")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("--seconds", options->seconds, "Time for each row, 5 to 100 runs")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command->add_flag("--kernels", options->kernels,
                    "Also what each kernel of each row takes (cuda alone)");
  command->add_option("--json", options->json, "Also write the rows to this file, as JSON");
  command->footer(
      "Each row: bytes the step has to read (weights in their stored form, the experts it chose, "
      "the keys and values it sees), and the share of the time that this machine's own read rate "
      "(for prefill also its multiply rate), measured in the same run, would have needed. Above "
      "them stands by which kernels the experts, attention and linears ran.");
  command->callback([options, &chosen] { chosen = [options] { bench_model(*options); }; });
}

}  // namespace facet::cli
