// GET /v1/models and /v1/models/{id} (server-api 10.1).

#include <algorithm>
#include <fmt/core.h>

#include "base/text.h"
#include "server/route.h"

namespace facet {
namespace {

void write_model(JsonWriter& json, std::string_view name, const ServedModel& model) {
  json.open_object().member("id", name).member("object", "model");
  json.member("created", model.created).member("owned_by", "local");
  json.member("max_model_len", model.max_model_len).member("root", model.folder);
  json.key("parent").null().key("capabilities").open_object();
  json.member("vision", false).member("tools", true).member("reasoning", true).close_object();
  json.member("quantization", model.quantization).close_object();
}

}  // namespace

std::string models_body(const RouteContext& context) {
  JsonWriter json;
  json.open_object().member("object", "list").key("data").open_array();
  for (const std::string& name : context.settings.names) write_model(json, name, context.model);
  json.close_array().close_object();
  return json.release();
}

std::string model_body(std::string_view name, const RouteContext& context) {
  const auto& names = context.settings.names;
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw ApiError(ApiCode::kModelNotFound,
                   fmt::format("The model \"{}\" is not served here; \"{}\" is.",
                               printable(name, 100), names.front()),
                   "model");
  }
  JsonWriter json;
  write_model(json, name, context.model);
  return json.release();
}

}  // namespace facet
