#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "quant/format.h"

namespace facet {

/// What the config says about one Linear.
struct QuantScheme {
  WeightFormat format = WeightFormat::kNvfp4;
  int32_t group_size = 0;     ///< 16 for NVFP4, the file's for INT4, 0 where it has no meaning
  bool static_input = false;  ///< a stored input scale is expected (W4A4, static FP8)
  bool one_scale = false;     ///< FP8: a scale for the whole matrix, not one for each row
  bool operator==(const QuantScheme&) const = default;
};

/// Whose conventions for names, ranks and reciprocals the tensors of a checkpoint follow.
enum class QuantMethod : uint8_t { kNone, kModelOpt, kCompressedTensors };

/// Reads `quantization_config` of config.json (ModelOpt or compressed-tensors), else
/// hf_quant_config.json. Rules: checkpoint-formats 2.1-2.3 (EXC-1…EXC-5), 3.1 (CT-1, CT-2).
class QuantConfig {
 public:
  /// A checkpoint without quantisation.
  QuantConfig();
  ~QuantConfig();
  QuantConfig(QuantConfig&&) noexcept;
  QuantConfig& operator=(QuantConfig&&) noexcept;

  /// Throws Error{kBadCheckpoint} naming file and field for anything unknown or contradictory.
  static QuantConfig parse(const boost::json::object& config,
                           const std::optional<boost::json::object>& hf_quant_config);

  /// The scheme of a Linear by its checkpoint module name
  /// ("model.language_model.layers.0.mlp.gate_proj", "…experts.3.up_proj", "lm_head"); nullopt if
  /// it is stored plainly. Only Linear modules may be asked for: lists do not name embeddings and
  /// norms. May be called from several threads. Throws Error{kBadCheckpoint} if a name of more than
  /// 512 bytes is to be held against a `re:` entry.
  std::optional<QuantScheme> scheme_of(std::string_view module) const;
  /// Whether any module may have a scheme.
  bool quantized() const;
  /// kNone if neither file declares anything.
  QuantMethod method() const;
  /// The cache format the checkpoint asks for: true if FP8 was declared.
  bool kv_fp8() const;
  /// "modelopt NVFP4", "compressed-tensors float-quantized", "none": for logs and `info`.
  std::string describe() const;

 private:
  struct Rules;
  std::unique_ptr<const Rules> rules_;  // null: nothing declared
};

}  // namespace facet
