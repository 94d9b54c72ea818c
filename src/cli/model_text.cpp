#include "cli/model_text.h"

#include <filesystem>
#include <optional>

#include "base/log.h"
#include "base/mapped_file.h"
#include "checkpoint/json.h"
#include "cli/options.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostTemplateBytes = 1 << 20;

/// E2B and E4B, which have per-layer embeddings, do not want an empty thought before an answer.
bool wants_empty_thought(const fs::path& folder) {
  if (!fs::exists(folder / "config.json")) return true;
  const boost::json::object config = read_json_object(folder / "config.json");
  const JsonReader root(config, "config.json");
  const auto text = root.object("text_config");
  return (text ? *text : root).integer("hidden_size_per_layer_input").value_or(0) == 0;
}

}  // namespace

Tokenizer load_tokenizer(const std::string& model) {
  return Tokenizer::load(find_model(model) + "/tokenizer.json");
}

RenderOptions render_options(const std::string& folder, const std::string& option) {
  const fs::path file = fs::path(folder) / "chat_template.jinja";
  std::optional<std::string> published;
  if (fs::exists(file)) published = read_file(file, kMostTemplateBytes);
  TemplateOption wanted = TemplateOption::kAuto;
  if (option == "july2026") wanted = TemplateOption::kJuly2026;
  if (option == "april2026") wanted = TemplateOption::kApril2026;
  const TemplateChoice choice = choose_template(
      wanted, published ? std::optional<std::string_view>(*published) : std::nullopt);
  if (choice.log_unknown) {
    log_info("chat",
             "chat_template.jinja is not the one of 2026-07-09, which is used: see --template");
  }
  RenderOptions options;
  options.generation = choice.generation;
  options.empty_thought = wants_empty_thought(folder);
  return options;
}

}  // namespace facet::cli
