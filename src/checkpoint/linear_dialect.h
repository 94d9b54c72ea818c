#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/assemble.h"
#include "quant/format.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace facet {

/// What a stored tensor is to its Linear.
enum class PartRole : uint8_t {
  kValues,
  kScales,
  kGlobalScale,
  kInverseGlobalScale,  ///< compressed-tensors stores the reciprocal (CT-4)
  kInputScale,
  kInverseInputScale,
  kStoredShape,
  kZeroPoints,
  kGroupIndex,
};
enum class PartNeed : uint8_t { kRequired, kOptional };

/// What the shape of a part depends on: the Linear's extents, and the columns per INT4 scale (0:
/// not known).
struct LinearExtents {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group = 0;
};

struct PartRule {
  std::string_view suffix;
  PartRole role;
  PartNeed need;
  std::span<const DType> dtypes;  ///< allowed ones
  /// Allowed shapes; none if they cannot be known.
  std::vector<Shape> (*shapes)(const LinearExtents&);
};

/// One way in which checkpoints store a Linear. `format` kBF16 stands for all plain formats here,
/// kFp8 for kFp8Block too.
struct LinearDialect {
  std::string_view name;
  WeightFormat format;
  int64_t columns_multiple;  ///< the columns of a matrix come in multiples of it
  std::span<const PartRule> parts;

  const PartRule* rule_of(std::string_view suffix) const;
};

/// The tensor of that suffix, or nullptr.
const StoredTensor* find_part(const WeightParts& parts, std::string_view suffix);

/// The dialect in which `parts` are written: names decide, then the dtype of the values, and only
/// where neither says anything `scheme` (CT-3); at last plain. nullptr if `weight_packed` is there
/// and nothing says of which format.
const LinearDialect* choose_dialect(const WeightParts& parts,
                                    const std::optional<QuantScheme>& scheme);
/// Whether any dialect knows the suffix.
bool known_suffix(std::string_view suffix);

/// One tensor of a Linear as producers write it.
struct PartForm {
  std::string_view suffix;
  PartRole role;
  DType dtype;
  Shape shape;
};

/// The tensors in which checkpoints of `method` store a Linear of `scheme`; without a scheme the
/// plain BF16 values. The optional input scale is among them if the scheme is static, other
/// optional parts are not. Throws Error{kBadCheckpoint} with the module as its place if the columns
/// do not divide into the format's words, blocks or groups.
std::vector<PartForm> stored_parts(const LinearSpec& spec,
                                   const std::optional<QuantScheme>& scheme,
                                   QuantMethod method);

}  // namespace facet
