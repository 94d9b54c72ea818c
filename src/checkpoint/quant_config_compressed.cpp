#include <array>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/name_pattern.h"
#include "checkpoint/name_regex.h"
#include "checkpoint/quant_rules.h"

namespace facet {
namespace {

constexpr std::string_view kFormats = "float-quantized, nvfp4-pack-quantized or pack-quantized";
constexpr std::string_view kLinear = "Linear";
constexpr int32_t kNvfp4Group = 16;
constexpr int64_t kFp8BlockSize = 128;
constexpr int64_t kCodesPerWord = 8;  // 4-bit codes in a 32-bit word of pack-quantized
constexpr int64_t kMaxGroup = 1 << 20;

void expect_integer(const JsonReader& reader, std::string_view name, int64_t wanted) {
  const std::optional<int64_t> found = reader.integer(name);
  if (found == wanted) return;
  reader.fail(name,
              fmt::format("found {}, wanted {}", found ? std::to_string(*found) : "none", wanted));
}

void expect_string(const JsonReader& reader, std::string_view name, std::string_view wanted) {
  const std::optional<std::string> found = reader.string(name);
  if (found != wanted) refuse(reader, name, found.value_or("none"), wanted);
}

/// For members whose presence would change what the numbers mean.
void expect_null(const JsonReader& reader, std::string_view name) {
  const boost::json::value* value = reader.find(name);
  if (value == nullptr) return;
  reader.fail(name,
              fmt::format("found {}, wanted null", printable(boost::json::serialize(*value), 80)));
}

/// Whether input_activations asks for a stored scale: `dynamic` false, or "local" (CT-6: stored for
/// the tensor, on the fly for the blocks of NVFP4). Null, or dynamic for each token: no.
bool stored_input_scale(const JsonReader& group, int64_t num_bits) {
  const std::optional<JsonReader> inputs = group.object("input_activations");
  if (!inputs) return false;
  expect_integer(*inputs, "num_bits", num_bits);
  expect_string(*inputs, "type", "float");
  const boost::json::value* dynamic = inputs->find("dynamic");
  if (dynamic == nullptr) return true;
  if (dynamic->is_bool()) return !dynamic->get_bool();
  if (num_bits == 4 && dynamic->is_string() && dynamic->get_string() == "local") return true;
  inputs->fail("dynamic", fmt::format("found {}, wanted true, false{}",
                                      printable(boost::json::serialize(*dynamic), 80),
                                      num_bits == 4 ? " or \"local\"" : ""));
}

QuantScheme parse_fp8(const JsonReader& group, const JsonReader& weights) {
  expect_integer(weights, "num_bits", 8);
  expect_string(weights, "type", "float");
  const bool stored = stored_input_scale(group, 8);
  const std::string strategy = weights.string("strategy").value_or("none");
  if (strategy == "channel") return {WeightFormat::kFp8, 0, stored};
  if (strategy == "tensor") return {WeightFormat::kFp8, 0, stored, /*one_scale=*/true};
  if (strategy != "block") refuse(weights, "strategy", strategy, "channel, tensor or block");
  if (weights.integers("block_structure") != std::vector<int64_t>(2, kFp8BlockSize)) {
    weights.fail("block_structure", fmt::format("wanted [{}, {}]", kFp8BlockSize, kFp8BlockSize));
  }
  return {WeightFormat::kFp8Block, 0, stored};
}

QuantScheme parse_nvfp4(const JsonReader& group, const JsonReader& weights) {
  expect_integer(weights, "num_bits", 4);
  expect_string(weights, "type", "float");
  expect_string(weights, "strategy", "tensor_group");
  expect_integer(weights, "group_size", kNvfp4Group);
  return {WeightFormat::kNvfp4, kNvfp4Group, stored_input_scale(group, 4)};
}

QuantScheme parse_int4(const JsonReader& group, const JsonReader& weights) {
  expect_integer(weights, "num_bits", 4);
  expect_string(weights, "type", "int");
  expect_string(weights, "strategy", "group");
  expect_null(weights, "actorder");
  expect_null(group, "input_activations");
  const int64_t size = weights.integer("group_size").value_or(0);
  if (size <= 0 || size > kMaxGroup || size % kCodesPerWord != 0) {
    weights.fail("group_size",
                 fmt::format("found {}, wanted a positive multiple of {}", size, kCodesPerWord));
  }
  return {WeightFormat::kInt4Group, static_cast<int32_t>(size), false};
}

QuantScheme parse_group(const JsonReader& config, const JsonReader& group) {
  const JsonReader& place = group.find("format") != nullptr ? group : config;
  const std::string format = place.string("format").value_or("none");
  if (format == "mixed-precision")
    group.fail("format", fmt::format("missing, wanted {}", kFormats));
  using Parse = QuantScheme (*)(const JsonReader&, const JsonReader&);
  constexpr std::array<std::pair<std::string_view, Parse>, 3> kParsers = {{
      {"float-quantized", parse_fp8},
      {"nvfp4-pack-quantized", parse_nvfp4},
      {"pack-quantized", parse_int4},
  }};
  for (const auto& [name, parse] : kParsers) {
    if (name != format) continue;
    const std::optional<JsonReader> weights = group.object("weights");
    if (!weights) group.fail("weights", "missing");
    expect_null(group, "output_activations");
    if (!weights->boolean("symmetric").value_or(true)) {
      weights->fail("symmetric", "found false, wanted true");
    }
    if (weights->boolean("dynamic").value_or(false)) {
      weights->fail("dynamic", "found true, wanted false");
    }
    return parse(group, *weights);
  }
  refuse(place, "format", format, kFormats);
}

/// What the targets of all groups and the ignore list come to. Order of `targets` and `ignore`
/// entries by weight (CT-1, CT-2): ignore, exact name, `re:`, class; among expressions the first of
/// the file wins, as in the format's own library.
class GroupRules : public ModuleRules {
 public:
  void add_group(const JsonReader& group, QuantScheme scheme) {
    const std::vector<std::string> targets =
        group.strings("targets").value_or(std::vector<std::string>());
    if (targets.empty()) group.fail("targets", "found none, wanted module names or \"Linear\"");
    for (const std::string& target : targets) {
      std::optional<QuantScheme> earlier;
      if (target == kLinear) {
        if (!every_linear_) every_linear_ = scheme;
        earlier = every_linear_;
      } else if (target.starts_with("re:")) {
        regexes_.emplace_back(parse_regex(group, "targets", target), scheme);
        continue;
      } else {
        earlier = names_.emplace(canonical_module(target), scheme).first->second;
      }
      if (earlier != scheme) {
        group.fail("targets",
                   fmt::format("\"{}\" has another scheme in an earlier group", printable(target)));
      }
    }
  }

  void add_ignored(const JsonReader& config) {
    const auto entries = config.strings("ignore");
    if (!entries) return;
    for (const std::string& entry : *entries) {
      if (entry.starts_with("re:")) {
        ignored_regexes_.push_back(parse_regex(config, "ignore", entry));
      } else if (entry == kLinear) {
        config.fail("ignore", "found the class \"Linear\": nothing would be quantised");
      } else {
        ignored_.insert(canonical_module(entry));
      }
    }
  }

  std::optional<QuantScheme> scheme_of(std::string_view module) const override {
    if (ignored_regexes_.empty() && regexes_.empty()) return resolve(module);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = resolved_.find(std::string(module));
    if (known != resolved_.end()) return known->second;
    const std::optional<QuantScheme> scheme = resolve(module);
    resolved_.emplace(module, scheme);
    return scheme;
  }

 private:
  static NameRegex parse_regex(const JsonReader& place,
                               std::string_view field,
                               std::string_view entry) {
    try {
      return NameRegex(std::string(entry.substr(3)));
    } catch (const Error& error) {
      place.fail(field, error.message());
    }
  }

  std::optional<QuantScheme> resolve(std::string_view module) const {
    const std::string name = canonical_module(module);
    if (ignored_.count(name) != 0) return std::nullopt;
    for (const NameRegex& regex : ignored_regexes_) {
      if (regex.matches(module)) return std::nullopt;
    }
    if (const auto exact = names_.find(name); exact != names_.end()) return exact->second;
    for (const auto& [regex, scheme] : regexes_) {
      if (regex.matches(module)) return scheme;
    }
    return every_linear_;
  }

  std::unordered_set<std::string> ignored_;  // canonical names
  std::vector<NameRegex> ignored_regexes_;
  std::unordered_map<std::string, QuantScheme> names_;  // by canonical name
  std::vector<std::pair<NameRegex, QuantScheme>> regexes_;
  std::optional<QuantScheme> every_linear_;

  // Answers, since an expression costs microseconds and a loader asks once for each tensor.
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, std::optional<QuantScheme>> resolved_;  // by mutex_
};

/// Sparse weights and rotated activations need work that no format above describes.
void refuse_extras(const JsonReader& config) {
  const std::optional<JsonReader> sparsity = config.object("sparsity_config");
  if (sparsity && sparsity->string("format").value_or("dense") != "dense") {
    refuse(*sparsity, "format", *sparsity->string("format"), "dense");
  }
  const std::optional<JsonReader> transform = config.object("transform_config");
  const std::optional<JsonReader> groups =
      transform ? transform->object("config_groups") : std::nullopt;
  if (groups && !groups->get().empty()) {
    config.fail("transform_config", "found transforms, which are not supported; wanted null");
  }
}

}  // namespace

DeclaredQuant parse_compressed_tensors(const JsonReader& config) {
  refuse_extras(config);
  DeclaredQuant result;
  result.method = QuantMethod::kCompressedTensors;
  result.kv_fp8 = declared_kv_fp8(config).value_or(false);
  const std::optional<JsonReader> groups = config.object("config_groups");
  if (!groups || groups->get().empty()) return result;
  auto rules = std::make_unique<GroupRules>();
  for (const auto& member : groups->get()) {
    const std::optional<JsonReader> group = groups->object(member.key());
    if (!group) groups->fail(member.key(), "found null, wanted an object");
    rules->add_group(*group, parse_group(config, *group));
  }
  rules->add_ignored(config);
  result.modules = std::move(rules);
  result.description =
      "compressed-tensors " + printable(config.string("format").value_or("of several formats"));
  return result;
}

}  // namespace facet
