#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/client_key.h"
#include "cli/commands.h"
#include "cli/remote_chat.h"
#include "cli/terminal_chat.h"

namespace facet::cli {
namespace {

struct Options {
  std::string url = "http://127.0.0.1:8000";
  std::string key_file;
  std::string model;
  std::string prompt;
  std::string system;
  int32_t max_tokens = 512;
  bool thinking = false;
  SamplingOptions sampling;
};

void chat(const Options& options) {
  RemoteServer server{http::Url::parse(options.url), client_key(options.key_file), options.model};
  if (server.model.empty()) server.model = first_model(server);
  RemoteChat conversation(server, options.sampling, options.max_tokens);
  conversation.set_system(options.system);
  conversation.set_thinking(options.thinking);
  const std::string prompt = given_prompt(options.prompt);
  if (prompt.empty()) {
    terminal_chat(conversation, 0, Stats::kRate);
  } else {
    answer_once(conversation, prompt, 0, Stats::kRate);
  }
}

}  // namespace

void add_chat(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = app.add_subcommand(
      "chat", "Chat with a running server (facet serve, or any with OpenAI's API)");
  command->add_option("PROMPT", options->prompt,
                      "Answer this and exit; without it (and without piped input): chat");
  command->add_option("--url", options->url, "Where the server listens, without /v1")
      ->capture_default_str();
  add_client_key_option(*command, options->key_file);
  command->add_option("--model", options->model, "As the server calls it; not given: its first");
  command->add_option("--system", options->system, "A system message");
  command->add_flag("--thinking", options->thinking, "Let the model think before it answers");
  command->add_option("--max-tokens", options->max_tokens, "Most tokens of one answer")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  add_sampling_options(*command, options->sampling);
  command->footer("In the chat, /help lists the keys and commands.");
  command->callback([options, &chosen] { chosen = [options] { chat(*options); }; });
}

}  // namespace facet::cli
