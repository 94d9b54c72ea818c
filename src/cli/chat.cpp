#include <CLI/CLI.hpp>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/remote_chat.h"
#include "cli/terminal_chat.h"

namespace facet::cli {
namespace {

constexpr int64_t kMostKeyBytes = 4096;
constexpr const char* kKeyVariable = "FACET_API_KEY";

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

/// The file's first line, or the environment's key; never the command line, which others can see.
std::string key_of(const Options& options) {
  if (options.key_file.empty()) {
    const char* key = std::getenv(kKeyVariable);
    return key == nullptr ? std::string() : std::string(key);
  }
  const std::string text = read_file(options.key_file, kMostKeyBytes);
  return text.substr(0, text.find_first_of("\r\n"));
}

void chat(const Options& options) {
  RemoteServer server{http::Url::parse(options.url), key_of(options), options.model};
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
  command->add_option("--api-key-file", options->key_file,
                      "A file with the server's key; without it the environment's FACET_API_KEY");
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
