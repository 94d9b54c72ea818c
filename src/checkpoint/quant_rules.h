#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/json.h"
#include "checkpoint/quant_config.h"

namespace facet {

/// What one dialect of quantization_config says about modules. Not changed after construction; may
/// be asked from several threads.
class ModuleRules {
 public:
  virtual ~ModuleRules() = default;
  /// As QuantConfig::scheme_of.
  virtual std::optional<QuantScheme> scheme_of(std::string_view module) const = 0;
};

/// A parsed quantisation config, of either dialect.
struct DeclaredQuant {
  std::unique_ptr<const ModuleRules> modules;  ///< null: nothing is quantised
  QuantMethod method = QuantMethod::kNone;
  bool kv_fp8 = false;
  std::string description = "none";
};

/// ModelOpt: `flat` is config.json's quantization_config, `nested` is hf_quant_config.json (the
/// members of each may lie in an object "quantization"); at least one is there. The flat one is
/// preferred, the other fills in what it does not mention.
DeclaredQuant parse_modelopt(const std::optional<JsonReader>& flat,
                             const std::optional<JsonReader>& nested);
/// The object that holds quant_algo: "quantization" if there is one, else `file` itself.
JsonReader modelopt_body(const JsonReader& file);

/// compressed-tensors: config.json's quantization_config.
DeclaredQuant parse_compressed_tensors(const JsonReader& config);

/// kv_cache_scheme or kv_cache_quant_algo: true for "FP8" or the 8-bit float object, false for
/// null, nullopt if neither is mentioned; anything else is refused by name.
std::optional<bool> declared_kv_fp8(const JsonReader& config);

/// Throws "field NAME: found "VALUE", wanted WANTED".
[[noreturn]] void refuse(const JsonReader& reader,
                         std::string_view name,
                         std::string_view value,
                         std::string_view wanted);

}  // namespace facet
