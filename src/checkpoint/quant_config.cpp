#include "checkpoint/quant_config.h"

#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/json.h"
#include "checkpoint/quant_rules.h"

namespace facet {
namespace {

constexpr std::string_view kMethods = "modelopt or compressed-tensors";

/// config.json's quantization_config: at the top, or in text_config as some multimodal files have
/// it.
std::optional<JsonReader> find_declared(const JsonReader& config) {
  if (std::optional<JsonReader> declared = config.object("quantization_config")) return declared;
  const std::optional<JsonReader> text = config.object("text_config");
  return text ? text->object("quantization_config") : std::nullopt;
}

std::string method_of(const JsonReader& declared) {
  if (std::optional<std::string> method = declared.string("quant_method")) return *method;
  const std::optional<JsonReader> producer = declared.object("producer");
  if (producer && producer->string("name") == "modelopt") return "modelopt";
  declared.fail("quant_method", fmt::format("missing, wanted {}", kMethods));
}

bool is_fp8_scheme(const boost::json::object& scheme) {
  const auto is = [&scheme](std::string_view name, const boost::json::value& wanted) {
    const boost::json::value* value = scheme.if_contains({name.data(), name.size()});
    return value != nullptr && *value == wanted;
  };
  const auto absent = [&scheme](std::string_view name) {
    const boost::json::value* value = scheme.if_contains({name.data(), name.size()});
    return value == nullptr || value->is_null();
  };
  return is("num_bits", 8) && is("type", "float") && (is("dynamic", false) || absent("dynamic")) &&
         (is("strategy", "tensor") || absent("strategy"));
}

}  // namespace

struct QuantConfig::Rules {
  DeclaredQuant declared;
};

QuantConfig::QuantConfig() = default;
QuantConfig::~QuantConfig() = default;
QuantConfig::QuantConfig(QuantConfig&&) noexcept = default;
QuantConfig& QuantConfig::operator=(QuantConfig&&) noexcept = default;

QuantConfig QuantConfig::parse(const boost::json::object& config,
                               const std::optional<boost::json::object>& hf_quant_config) {
  const JsonReader root(config, "config.json");
  const std::optional<JsonReader> declared = find_declared(root);
  std::optional<JsonReader> nested;
  if (hf_quant_config) nested.emplace(*hf_quant_config, "hf_quant_config.json");
  QuantConfig result;
  if (!declared && !nested) return result;

  const std::string method = declared ? method_of(*declared) : "modelopt";
  DeclaredQuant quant;
  if (method == "modelopt") {
    quant = parse_modelopt(declared, nested);
  } else if (method == "compressed-tensors") {
    if (nested) {
      if (const auto algo = modelopt_body(*nested).string("quant_algo")) {
        throw Error(
            ErrorCode::kBadCheckpoint,
            fmt::format("quant_method is compressed-tensors in config.json but "
                        "hf_quant_config.json declares ModelOpt's quant_algo {}; remove one",
                        printable(*algo)));
      }
    }
    quant = parse_compressed_tensors(*declared);
  } else {
    refuse(*declared, "quant_method", method, kMethods);
  }
  result.rules_ = std::make_unique<const Rules>(Rules{std::move(quant)});
  return result;
}

std::optional<QuantScheme> QuantConfig::scheme_of(std::string_view module) const {
  if (!quantized()) return std::nullopt;
  return rules_->declared.modules->scheme_of(module);
}

bool QuantConfig::quantized() const { return rules_ && rules_->declared.modules; }

QuantMethod QuantConfig::method() const {
  return rules_ ? rules_->declared.method : QuantMethod::kNone;
}

bool QuantConfig::kv_fp8() const { return rules_ && rules_->declared.kv_fp8; }

std::string QuantConfig::describe() const {
  return rules_ ? rules_->declared.description : DeclaredQuant().description;
}

std::optional<bool> declared_kv_fp8(const JsonReader& config) {
  std::optional<bool> result;
  for (const char* name : {"kv_cache_scheme", "kv_cache_quant_algo"}) {
    if (!config.get().contains(name)) continue;
    const boost::json::value* value = config.find(name);
    if (value == nullptr) {
      if (!result) result = false;
    } else if (value->is_string() ? value->get_string() == "FP8"
                                  : value->is_object() && is_fp8_scheme(value->get_object())) {
      result = true;
    } else {
      config.fail(name,
                  fmt::format("found {}, wanted null, \"FP8\" or the static 8-bit float scheme",
                              printable(boost::json::serialize(*value))));
    }
  }
  return result;
}

void refuse(const JsonReader& reader,
            std::string_view name,
            std::string_view value,
            std::string_view wanted) {
  reader.fail(name, fmt::format("found \"{}\", wanted {}", printable(value), wanted));
}

}  // namespace facet
