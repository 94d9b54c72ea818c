#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/core.h>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "base/error.h"
#include "chat/prompt_renderer.h"
#include "cli/commands.h"
#include "cli/model_text.h"
#include "cli/options.h"

namespace facet::cli {
namespace {

struct Options {
  std::string model;
  std::string chat_template = "auto";
  bool exact = false;
  bool jsonl = false;
};

bool flag(const Value& request, const char* name, bool otherwise) {
  const Value* value = request.find_set(name);
  if (value == nullptr) return otherwise;
  if (value->kind() != Value::Kind::kBool) {
    throw Error(ErrorCode::kBadInput,
                fmt::format("field {}: found {}, wanted true or false", name, kind_name(*value)));
  }
  return value->boolean();
}

std::string prompt_of(const Value& request, RenderOptions options) {
  const Value* messages = request.find_set("messages");
  if (messages == nullptr) {
    throw Error(ErrorCode::kBadInput, "wanted an object with the field messages");
  }
  options.enable_thinking = flag(request, "enable_thinking", false);
  options.preserve_thinking = flag(request, "preserve_thinking", false);
  options.add_generation_prompt = flag(request, "add_generation_prompt", true);
  options.continue_final_message = flag(request, "continue_final_message", false);
  return to_text(render(*messages, request.find_set("tools"), options));
}

void render_stdin(const Options& options) {
  RenderOptions base = render_options(find_model(options.model), options.chat_template);
  base.template_exact = options.exact;
  if (!options.jsonl) {
    const std::string text(std::istreambuf_iterator<char>(std::cin), {});
    const std::string prompt = prompt_of(parse_value(text), base);
    std::fwrite(prompt.data(), 1, prompt.size(), stdout);
    return;
  }
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.empty()) continue;
    const std::string prompt = in_place(fmt::format("line {}", number),
                                        [&] { return prompt_of(parse_value(line), base); });
    fmt::print("{}\n", boost::json::serialize(boost::json::value(prompt)));
  }
}

}  // namespace

void add_render(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = app.add_subcommand(
      "render",
      "A chat as JSON from stdin to the prompt the model sees, control tokens as their text");
  command->footer(
      "The object has messages, and may have tools, enable_thinking, preserve_thinking,\n"
      "add_generation_prompt, continue_final_message.");
  add_model_argument(*command, options->model);
  command->add_option("--template", options->chat_template, "Which published template")
      ->check(CLI::IsMember({"auto", "july2026", "april2026"}))
      ->capture_default_str();
  command->add_flag(
      "--template-exact", options->exact,
      "As published, also where it forgets the model's turn after calls with results and content");
  command->add_flag("--jsonl", options->jsonl,
                    "One JSON object per line in, one JSON string per line out");
  command->callback([options, &chosen] { chosen = [options] { render_stdin(*options); }; });
}

}  // namespace facet::cli
