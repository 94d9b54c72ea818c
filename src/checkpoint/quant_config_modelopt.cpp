#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/name_pattern.h"
#include "checkpoint/quant_rules.h"

namespace facet {
namespace {

constexpr std::string_view kMixed = "MIXED_PRECISION";
constexpr int32_t kNvfp4Group = 16;
constexpr int32_t kFp8BlockSize = 128;

struct Algo {
  std::string_view name;
  QuantScheme scheme;
  int32_t group_size;  // the one value the config may state, 0 = not looked at
};

constexpr std::array<Algo, 4> kAlgos = {{
    {"NVFP4", {WeightFormat::kNvfp4, kNvfp4Group, true}, kNvfp4Group},
    {"W4A16_NVFP4", {WeightFormat::kNvfp4, kNvfp4Group, false}, kNvfp4Group},
    {"FP8", {WeightFormat::kFp8, 0, true, true}, 0},
    {"FP8_PB_WO", {WeightFormat::kFp8Block, 0, false}, kFp8BlockSize},
}};

/// The scheme of an algorithm, held against the group size stated beside it.
QuantScheme scheme_of_algo(const JsonReader& place,
                           const std::string& name,
                           std::optional<int64_t> group_size) {
  const auto found = std::find_if(kAlgos.begin(), kAlgos.end(),
                                  [&name](const Algo& algo) { return algo.name == name; });
  if (found == kAlgos.end()) {
    refuse(place, "quant_algo", name,
           "NVFP4, W4A16_NVFP4, FP8, FP8_PB_WO, MIXED_PRECISION of these, or null");
  }
  if (group_size && found->group_size != 0 && *group_size != found->group_size) {
    place.fail("group_size",
               fmt::format("found {}, wanted {} for {}", *group_size, found->group_size, name));
  }
  return found->scheme;
}

/// Fields that change what a weight means and that no supported algorithm sets.
void refuse_extras(const JsonReader& body) {
  for (const char* name : {"has_zero_point", "pre_quant_scale"}) {
    if (body.boolean(name).value_or(false)) body.fail(name, "found true, which is not supported");
  }
}

/// group_size of the file, or of the weights of its first group that states one.
std::optional<int64_t> stated_group_size(const JsonReader& body) {
  if (const std::optional<int64_t> size = body.integer("group_size")) return size;
  const std::optional<JsonReader> groups = body.object("config_groups");
  if (!groups) return std::nullopt;
  for (const auto& member : groups->get()) {
    const std::optional<JsonReader> group = groups->object(member.key());
    const std::optional<JsonReader> weights = group ? group->object("weights") : std::nullopt;
    if (!weights) continue;
    if (const std::optional<int64_t> size = weights->integer("group_size")) return size;
  }
  return std::nullopt;
}

/// One file's view of what both files may say.
struct Claims {
  JsonReader body;
  bool says_algo = false;  // quant_algo is there, perhaps null
  std::optional<std::string> algo;
  std::optional<int64_t> group_size;

  explicit Claims(const JsonReader& file)
      : body(modelopt_body(file)),
        says_algo(body.get().contains("quant_algo")),
        algo(body.string("quant_algo")) {
    if (algo != kMixed) group_size = stated_group_size(body);
    refuse_extras(body);
  }
};

void refuse_contradiction(const Claims& flat, const Claims& nested) {
  const auto differ = [](std::string_view name, const std::string& left, const std::string& right) {
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("{} is {} in config.json but {} in hf_quant_config.json; wanted the "
                            "same in both",
                            name, printable(left), printable(right)));
  };
  if (flat.says_algo && nested.says_algo && flat.algo != nested.algo) {
    differ("quant_algo", flat.algo.value_or("null"), nested.algo.value_or("null"));
  }
  if (flat.group_size && nested.group_size && flat.group_size != nested.group_size) {
    differ("group_size", std::to_string(*flat.group_size), std::to_string(*nested.group_size));
  }
}

/// The first of the bodies (the preferred one first) that mentions `name`, by any of its spellings.
std::optional<std::pair<JsonReader, const char*>> find_field(
    const std::vector<Claims>& claims, const std::vector<const char*>& names) {
  for (const Claims& claim : claims) {
    for (const char* name : names) {
      if (claim.body.get().contains(name)) return std::pair(claim.body, name);
    }
  }
  return std::nullopt;
}

/// One algorithm for all modules that are not excluded.
class UniformRules : public ModuleRules {
 public:
  UniformRules(ModulePatterns excluded, QuantScheme scheme)
      : excluded_(std::move(excluded)), scheme_(scheme) {}

  std::optional<QuantScheme> scheme_of(std::string_view module) const override {
    if (excluded_.matches(module)) return std::nullopt;
    return scheme_;
  }

 private:
  ModulePatterns excluded_;
  QuantScheme scheme_;
};

/// MIXED_PRECISION: by canonical module name; nullopt for a layer listed with the algorithm null.
using LayerSchemes = std::map<std::string, std::optional<QuantScheme>, std::less<>>;

class MixedRules : public ModuleRules {
 public:
  MixedRules(ModulePatterns excluded, LayerSchemes layers)
      : excluded_(std::move(excluded)), layers_(std::move(layers)) {}

  /// By name, else by the first layer listed below it (experts as a whole). Not listed: plain.
  std::optional<QuantScheme> scheme_of(std::string_view module) const override {
    if (excluded_.matches(module)) return std::nullopt;
    std::string name = canonical_module(module);
    if (const auto exact = layers_.find(name); exact != layers_.end()) return exact->second;
    name += '.';
    const auto below = layers_.lower_bound(name);
    if (below == layers_.end() || !below->first.starts_with(name)) return std::nullopt;
    return below->second;
  }

 private:
  ModulePatterns excluded_;
  LayerSchemes layers_;
};

LayerSchemes parse_layers(const JsonReader& layers) {
  LayerSchemes schemes;
  for (const auto& member : layers.get()) {
    const std::string_view name = member.key();
    if (name.find('*') != std::string_view::npos) {
      layers.fail(name, "found a pattern, wanted the name of a module");
    }
    const std::optional<JsonReader> layer = layers.object(name);
    if (!layer) layers.fail(name, "found null, wanted an object with quant_algo");
    refuse_extras(*layer);
    std::optional<QuantScheme> scheme;
    if (const std::optional<std::string> algo = layer->string("quant_algo")) {
      scheme = scheme_of_algo(*layer, *algo, layer->integer("group_size"));
    }
    const auto [at, fresh] = schemes.emplace(canonical_module(name), scheme);
    if (!fresh && at->second != scheme) {
      layers.fail(name, "listed under two names with different algorithms");
    }
  }
  return schemes;
}

}  // namespace

JsonReader modelopt_body(const JsonReader& file) {
  return file.object("quantization").value_or(file);
}

DeclaredQuant parse_modelopt(const std::optional<JsonReader>& flat,
                             const std::optional<JsonReader>& nested) {
  std::vector<Claims> claims;
  if (flat) claims.emplace_back(*flat);
  if (nested) claims.emplace_back(*nested);
  if (claims.size() == 2) refuse_contradiction(claims[0], claims[1]);

  DeclaredQuant result;
  result.method = QuantMethod::kModelOpt;
  for (const Claims& claim : claims) {
    if (const std::optional<bool> kv_fp8 = declared_kv_fp8(claim.body)) {
      result.kv_fp8 = *kv_fp8;
      break;
    }
  }
  const auto algo_field = find_field(claims, {"quant_algo"});
  const std::optional<std::string> algo =
      algo_field ? algo_field->first.string("quant_algo") : std::nullopt;
  if (!algo) {
    const JsonReader& body = claims.front().body;
    const std::optional<JsonReader> groups = body.object("config_groups");
    if (groups && !groups->get().empty()) {
      body.fail("quant_algo", "missing, though config_groups declares quantised modules");
    }
    return result;
  }

  ModulePatterns excluded;
  if (const auto field = find_field(claims, {"ignore", "exclude_modules"})) {
    excluded =
        ModulePatterns(field->first.strings(field->second).value_or(std::vector<std::string>()));
  }
  if (algo == kMixed) {
    const auto field = find_field(claims, {"quantized_layers"});
    const std::optional<JsonReader> layers =
        field ? field->first.object(field->second) : std::nullopt;
    if (!layers) algo_field->first.fail("quantized_layers", "missing, wanted for MIXED_PRECISION");
    result.modules = std::make_unique<MixedRules>(std::move(excluded), parse_layers(*layers));
  } else {
    std::optional<int64_t> group_size;
    for (const Claims& claim : claims) {
      if (!group_size) group_size = claim.group_size;
    }
    result.modules = std::make_unique<UniformRules>(
        std::move(excluded), scheme_of_algo(algo_field->first, *algo, group_size));
  }
  result.description = "modelopt " + *algo;
  return result;
}

}  // namespace facet
