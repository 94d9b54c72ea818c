// The flags of `bench serve` and `bench engine`.

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <limits>

#include "cli/bench_load.h"

namespace facet::cli {
namespace {

constexpr int32_t kMostRequests = 1'000'000;
constexpr int32_t kMostTokens = 1 << 24;
constexpr int32_t kMostConcurrency = 100'000;
constexpr const char* kLoad = "Load";
constexpr const char* kPrompts = "Prompts";

std::string preset_help() {
  std::string help = "Where the flags below do not say otherwise:";
  for (const Preset& one : presets()) help += fmt::format("\n{}: {}", one.name, one.help);
  return help;
}

void add_prompt_options(CLI::App& command, LoadOptions& o) {
  const auto add = [&](const char* name, auto& field, const char* help) {
    return command.add_option(name, field, help)->group(kPrompts);
  };
  command.add_option("--preset", o.preset, preset_help())->group(kPrompts)->capture_default_str();
  CLI::Option* input =
      add("--input-len", o.input_len, "Tokens of a prompt")->check(CLI::Range(1, kMostTokens));
  add("--output-len", o.output_len, "Tokens of an answer, wherever the model would end")
      ->check(CLI::Range(1, kMostTokens));
  CLI::Option* ratio =
      add("--range-ratio", o.range_ratio,
          "1: all lengths as given; less: drawn from RATIO times that to all of it, as SGLang does")
          ->check(CLI::Range(0.0, 1.0));
  CLI::Option* prefix = add("--shared-prefix", o.shared_prefix,
                            "Tokens that all prompts begin with, which a prefix cache finds; 0 "
                            "where it is not given")
                            ->check(CLI::Range(0, kMostTokens));
  add("--seed", o.seed,
      "Of lengths, prompts and arrivals; 1 where it is not given. A second run with the same seed "
      "finds its prompts in the server's prefix cache");
  add("--prompts", o.prompts,
      "A file of prompts instead: a line each, {\"prompt\":TEXT} or {\"messages\":[...]}, with "
      "\"max_tokens\" where it is not --output-len")
      ->excludes(input)
      ->excludes(ratio)
      ->excludes(prefix);
  command
      .add_flag("--stop-at-end", o.stop_at_end,
                "Let answers end where the model ends them; their length is then not checked")
      ->group(kPrompts);
}

}  // namespace

void add_load_options(CLI::App& command, LoadOptions& o) {
  const auto add = [&](const char* name, auto& field, const char* help) {
    return command.add_option(name, field, help)->group(kLoad);
  };
  add_prompt_options(command, o);
  add("--num-prompts", o.requests,
      "Requests of a run; not given: as the preset says, with --prompts all lines")
      ->check(CLI::Range(1, kMostRequests));
  CLI::Option* rate =
      add("--request-rate", o.request_rate,
          "Requests that arrive in a second, as a Poisson process; inf (the default): all at once")
          ->check(CLI::Range(1e-6, std::numeric_limits<double>::infinity()));
  CLI::Option* concurrency =
      add("--concurrency", o.concurrency,
          "Most requests under way; 0: any number. Not given: as the preset says, with "
          "--request-rate any number")
          ->check(CLI::Range(0, kMostConcurrency));
  const auto add_list = [&](const char* name, auto& field, const char* help) {
    return add(name, field, help)->delimiter(',')->allow_extra_args(false);
  };
  CLI::Option* sweep =
      add_list("--sweep", o.sweep,
               "One run for each of these concurrencies, as a list (1,2,4,8), each of at least "
               "four requests for every place")
          ->check(CLI::Range(1, kMostConcurrency))
          ->excludes(concurrency);
  add_list("--sweep-rates", o.sweep_rates, "One run for each of these request rates, as a list")
      ->check(CLI::Range(1e-6, 1e6))
      ->excludes(rate)
      ->excludes(sweep);
  add("--warmup", o.warm_ups, "Requests before the first run, not measured")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str();
  add("--json", o.json, "Also write all numbers to this file, as JSON");
  add("--plot", o.plot,
      "Also draw latency over load into this file, as SVG; alone it means --sweep 1,2,4,8,16");
}

}  // namespace facet::cli
