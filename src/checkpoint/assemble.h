#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/fault_report.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/safetensors.h"
#include "quant/weight_matrix.h"

namespace facet {

/// The stored tensors of one Linear: suffix ("weight", "weight_scale", "weight_packed", …) and
/// tensor. A plain fused tensor without ".weight" has the suffix "weight" here.
using WeightParts = std::vector<std::pair<std::string, const StoredTensor*>>;

struct LinearSpec {
  /// Checkpoint name without the suffix, for messages.
  std::string module;
  int64_t rows = 0;  ///< out; > 0 and below 2^31
  int64_t cols = 0;  ///< in; > 0 and below 2^31
};

/// Builds the matrix of one Linear from its parts, by a table of dialects (CT-3: names decide, not
/// config strings). Checks presence, dtype and shape [rows, cols] of every part, that scales are
/// finite and > 0 (NVFP4's E4M3 block scales: no NaN codes), and that the stored form agrees with
/// `scheme` (EXC-5); an input scale must be there if the scheme is static. Each fault goes into
/// `faults` with the tensor's full name, and the result is then empty.
WeightMatrix assemble_matrix(const LinearSpec& spec,
                             const WeightParts& parts,
                             const std::optional<QuantScheme>& scheme,
                             FaultReport& faults);

}  // namespace facet
