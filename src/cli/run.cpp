#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cstdio>
#include <fmt/core.h>
#include <memory>

#include "base/error.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/model_text.h"
#include "cli/sampling_options.h"
#include "cli/session.h"
#include "cli/terminal_chat.h"

namespace facet::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  ModelOptions model;
  SamplingOptions sampling;
  std::string prompt;
  std::string system;
  std::string chat_template = "auto";
  std::string image;
  int32_t max_tokens = 512;
  int64_t context = 8192;
  bool thinking = false;
  bool json = false;
  bool verbose = false;
};

void print_json(const Answer& answer, double load_s) {
  const GenerationTimes& t = answer.times;
  const boost::json::object timings = {
      {"load_s", load_s},
      {"time_to_first_token_s", t.prompt_s},
      {"prompt_tokens", t.prompt_tokens},
      {"cached_tokens", t.cached_tokens},
      {"prompt_tokens_per_second", t.prompt_rate()},
      {"generated_tokens", t.generated_tokens},
      {"decode_tokens_per_second", t.decode_rate()},
  };
  boost::json::object all = {{"text", answer.content}};
  if (!answer.reasoning.empty()) all["reasoning"] = answer.reasoning;
  all["finish_reason"] = answer.finish_reason;
  all["timings"] = timings;
  fmt::print("{}\n", boost::json::serialize(all));
}

void run(const Options& options) {
  if (!options.image.empty()) {
    throw Error(ErrorCode::kUsage, "--image: images are not supported yet");
  }
  const auto start = Clock::now();
  const Tokenizer tokenizer = load_tokenizer(options.model.model);
  Session session(
      options.model,
      {.positions = options.context, .rewinding = Rewinding::kYes, .memory_flags = "--context"});
  tokenizer.check_fits(session.config().vocab_size);
  RenderOptions render = render_options(find_model(options.model.model), options.chat_template);
  render.enable_thinking = options.thinking;
  ChatSession chat(session, tokenizer, render,
                   sampling_params(options.sampling, session.checkpoint()), options.max_tokens);
  chat.set_system(options.system);
  session.warm_up();
  const double load_s = std::chrono::duration<double>(Clock::now() - start).count();
  const std::string prompt = given_prompt(options.prompt);
  const Stats stats = options.verbose ? Stats::kAll : Stats::kRate;
  if (prompt.empty()) {
    terminal_chat(chat, load_s, stats);
  } else if (options.json) {
    print_json(chat.ask(prompt, [](OutputEvent::Kind, std::string_view) {}, {}), load_s);
  } else {
    answer_once(chat, prompt, load_s, stats);
  }
}

}  // namespace

void add_run(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command =
      app.add_subcommand("run", "Chat in the terminal, or answer one PROMPT and exit");
  add_model_options(*command, options->model);
  command->add_option("PROMPT", options->prompt,
                      "Answer this and exit; without it (and without piped input): chat");
  command->add_option("--system", options->system, "A system message");
  command->add_flag("--thinking", options->thinking, "Let the model think before it answers");
  command->add_option("--max-tokens", options->max_tokens, "Most tokens of one answer")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--context", options->context,
                   "Most tokens of the conversation that are kept in memory")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--template", options->chat_template, "Which published chat template")
      ->check(CLI::IsMember({"auto", "july2026", "april2026"}))
      ->capture_default_str();
  command->add_option("--image", options->image, "An image file (not supported yet)");
  command->add_flag("--json", options->json, "Print one JSON object: text and timings");
  command->add_flag("--verbose", options->verbose, "Print all timings of each answer");
  add_sampling_options(*command, options->sampling);
  command->footer("In the chat, /help lists the keys and commands.");
  command->callback([options, &chosen] { chosen = [options] { run(*options); }; });
}

}  // namespace facet::cli
