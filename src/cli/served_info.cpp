#include "cli/served_info.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <string_view>

#include "cache/kv_cache.h"
#include "commit.h"

namespace facet::cli {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 2> kSecrets = {"api-key-file", "tls-key"};

/// A number where the flag takes one, else text.
json::value value_of(const CLI::Option& option, const std::string& text) {
  const std::string type = option.get_type_name();
  const bool number =
      type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT");
  boost::system::error_code fault;
  json::value parsed = number ? json::parse(text, fault) : json::value();
  if (!number || fault) return json::value(text);
  return parsed;
}

json::value value_of(const CLI::Option& option) {
  const bool given = option.count() > 0;
  if (option.get_items_expected_max() == 0) return given;
  if (!given) {
    const std::string text = option.get_default_str();
    return text.empty() ? json::value() : value_of(option, text);
  }
  if (option.get_items_expected_max() == 1) return value_of(option, option.results().front());
  json::array all;
  for (const std::string& text : option.results()) all.push_back(value_of(option, text));
  return all;
}

json::array describe_groups(const LoadedModel& loaded,
                            const ServeOptions& options,
                            const EngineStatus& status) {
  const int32_t page_size = EngineOptions().page_size;
  const auto groups = loaded.model().kv_groups(page_size, kv_dtype(options.model, loaded.quant()));
  json::array all;
  for (size_t i = 0; i < std::min(groups.size(), status.groups.size()); ++i) {
    const KvGroupSpec& group = groups[i];
    const int64_t pages = status.groups[i].pages;
    all.push_back(json::object{{"group", group.window > 0 ? "sliding" : "full"},
                               {"layers", group.layers},
                               {"window", group.window > 0 ? json::value(group.window) : nullptr},
                               {"pages", pages},
                               {"tokens", pages * group.layout.page_size},
                               {"bytes", pages * KvCache::page_bytes(group)}});
  }
  return all;
}

std::string describe_memory(const ServeOptions& options,
                            const LoadedModel& loaded,
                            const Engine& engine) {
  const EngineLimits& limits = engine.limits();
  return json::serialize(json::object{{"weights_bytes", loaded.checkpoint().file_bytes()},
                                      {"groups", describe_groups(loaded, options, engine.status())},
                                      {"max_model_len", limits.max_model_len},
                                      {"max_running", limits.max_running},
                                      {"max_queue", limits.max_queue},
                                      {"max_queue_tokens", limits.max_queue_tokens}});
}

}  // namespace

std::string describe_settings(const CLI::App& command) {
  json::object all;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty()) continue;  // MODEL
    std::string name = option->get_lnames().front();
    if (name == "help" || name == "config") continue;
    const bool secret = std::find(kSecrets.begin(), kSecrets.end(), name) != kSecrets.end();
    std::replace(name.begin(), name.end(), '-', '_');
    all[name] = !secret ? value_of(*option) : option->count() > 0 ? json::value("***") : nullptr;
  }
  return json::serialize(all);
}

ServedInfo served_info(const ServeOptions& options,
                       const LoadedModel& loaded,
                       const Engine& engine) {
  ServedInfo info;
  info.version = FACET_VERSION;
  info.commit = FACET_COMMIT;
  const json::object& config = loaded.checkpoint().config();
  if (const json::value* type = config.if_contains("model_type"); type && type->is_string())
    info.model_type = std::string(type->as_string());
  if (const json::value* names = config.if_contains("architectures"); names && names->is_array()) {
    for (const json::value& name : names->as_array()) {
      if (name.is_string()) info.architectures.emplace_back(name.as_string());
    }
  }
  info.settings = options.described;
  info.memory = describe_memory(options, loaded, engine);
  info.kernels = json::serialize(kernels_json(loaded.kernels()));
  return info;
}

}  // namespace facet::cli
