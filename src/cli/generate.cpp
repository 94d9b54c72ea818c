#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/ids.h"
#include "cli/sampling_options.h"
#include "cli/session.h"
#include "engine/generation.h"

namespace facet::cli {
namespace {

struct Options {
  ModelOptions model;
  SamplingOptions sampling;
  std::string ids;
  int32_t max_tokens = 16;
  bool ignore_eos = false;
};

void generate(const Options& options) {
  const std::vector<int32_t> prompt = parse_ids(options.ids);
  Session session(options.model, {.positions = std::ssize(prompt) + options.max_tokens,
                                  .memory_flags = "--max-tokens"});
  check_ids(prompt, session.config().vocab_size);
  GenerationParams params;
  params.sampling = sampling_params(options.sampling, session.checkpoint());
  params.max_tokens = options.max_tokens;
  // With --ignore-eos the answer is that of the bare model, which is what reference
  // implementations give: they mask nothing.
  if (!options.ignore_eos) {
    params.end_ids = end_ids(session.checkpoint(), session.config().eos_token_id);
    params.never_ids = never_ids(session.checkpoint());
  }
  std::vector<int32_t> answer;
  Generation generation(session.stepper(), session.max_rows(), session.max_positions());
  const GenerationResult result = generation.run(prompt, params, [&](int32_t id) {
    answer.push_back(id);
    return true;
  });
  if (result.cause == GenerationEnd::kEndToken) answer.push_back(result.end_id);
  fmt::print("{}\n", format_ids(answer));
}

}  // namespace

void add_generate(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  options->sampling.temperature = 0.0F;
  CLI::App* command =
      app.add_subcommand("generate", "Continue token ids; prints the generated ids on one line");
  add_model_options(*command, options->model);
  command->add_option("--ids", options->ids, "The prompt: token ids separated by commas")
      ->required();
  command->add_option("--max-tokens", options->max_tokens, "Most tokens to generate")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->add_flag("--ignore-eos", options->ignore_eos,
                    "Go on after an end token, and let the control tokens be chosen that never are "
                    "otherwise: the bare model, to compare with others");
  add_sampling_options(*command, options->sampling);
  command->callback([options, &chosen] { chosen = [options] { generate(*options); }; });
}

}  // namespace facet::cli
