#include "checkpoint/assemble.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <span>

#include "base/check.h"
#include "base/text.h"
#include "checkpoint/block_scales.h"
#include "checkpoint/linear_dialect.h"
#include "quant/float_formats.h"
#include "quant/fp8.h"
#include "quant/int4.h"
#include "quant/nvfp4.h"

namespace facet {
namespace {

std::string join(std::span<const DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) {
    if (!text.empty()) text += " or ";
    text += to_string(dtype);
  }
  return text;
}

std::string join(const std::vector<Shape>& shapes) {
  std::string text;
  for (const Shape& shape : shapes) {
    if (!text.empty()) text += " or ";
    text += to_string(shape);
  }
  return text;
}

bool usable_scale(float value) { return std::isfinite(value) && value > 0.0F; }

/// "[3, 17]" of a flat index.
std::string place_of(const StoredTensor& tensor, int64_t index) {
  if (tensor.shape.rank() != 2) return fmt::format("[{}]", index);
  return fmt::format("[{}, {}]", index / tensor.shape[1], index % tensor.shape[1]);
}

template <typename T>
T integer_at(const StoredTensor& tensor, int64_t index) {
  T value = 0;
  std::memcpy(&value, tensor.bytes.data() + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

bool is_fp8(WeightFormat format) {
  return format == WeightFormat::kFp8 || format == WeightFormat::kFp8Block;
}

/// Equal but for how FP8 is scaled.
bool same_family(WeightFormat a, WeightFormat b) { return a == b || (is_fp8(a) && is_fp8(b)); }

Shape blocks_of(const LinearSpec& spec) {
  return {(spec.rows + kFp8Block - 1) / kFp8Block, (spec.cols + kFp8Block - 1) / kFp8Block};
}

WeightFormat plain_format(DType dtype) {
  if (dtype == DType::kF32) return WeightFormat::kF32;
  return dtype == DType::kF16 ? WeightFormat::kF16 : WeightFormat::kBF16;
}

/// One call of assemble_matrix().
class Assembly {
 public:
  Assembly(const LinearSpec& spec,
           const WeightParts& parts,
           const std::optional<QuantScheme>& scheme,
           FaultReport& faults)
      : spec_(spec), parts_(parts), scheme_(scheme), faults_(faults) {}

  /// To be used only if no fault was reported.
  WeightMatrix build();

 private:
  const LinearDialect* find_dialect();
  void refuse_other_parts(const LinearDialect* dialect);
  bool extents_fit(const LinearDialect& dialect);
  void find_group();
  bool is_expected(const PartRule& rule) const;
  void report_missing(const PartRule& rule);
  bool has_dtype(const PartRule& rule, const StoredTensor& tensor);
  bool has_shape(const PartRule& rule, const StoredTensor& tensor);

  void take(const PartRule& rule, const StoredTensor& tensor);
  void take_scales(const StoredTensor& tensor);
  float scalar_of(const StoredTensor& tensor);
  float reciprocal_of(const StoredTensor& tensor);
  void check_stored_shape(const StoredTensor& tensor);
  void check_zero_points(const StoredTensor& tensor);
  void check_group_index(const StoredTensor& tensor);
  void check_scheme(const LinearDialect& dialect);

  const LinearSpec& spec_;
  const WeightParts& parts_;
  const std::optional<QuantScheme>& scheme_;
  FaultReport& faults_;
  LinearExtents extents_{};
  WeightMatrix matrix_;
};

WeightMatrix Assembly::build() {
  if (parts_.empty()) {
    const std::string_view format = scheme_ ? to_string(scheme_->format) : "plain";
    faults_.missing(spec_.module + ".weight",
                    fmt::format("{} {}", format, to_string(Shape{spec_.rows, spec_.cols})));
    return {};
  }
  const LinearDialect* dialect = find_dialect();
  refuse_other_parts(dialect);
  if (dialect == nullptr) return {};
  matrix_.rows = spec_.rows;
  matrix_.cols = spec_.cols;
  matrix_.format = dialect->format;
  const bool fits = extents_fit(*dialect);
  for (const PartRule& rule : dialect->parts) {
    const StoredTensor* tensor = find_part(parts_, rule.suffix);
    if (tensor == nullptr) {
      if (is_expected(rule)) report_missing(rule);
    } else if (has_dtype(rule, *tensor) && fits && has_shape(rule, *tensor)) {
      take(rule, *tensor);
    }
  }
  check_scheme(*dialect);
  return matrix_;
}

/// nullptr, with a fault, if the parts belong to no supported dialect.
const LinearDialect* Assembly::find_dialect() {
  const StoredTensor* packed = find_part(parts_, "weight_packed");
  if (packed != nullptr && find_part(parts_, "weight") != nullptr) {
    faults_.extra(packed->name, "a Linear has .weight or .weight_packed, this one has both");
    return nullptr;
  }
  const StoredTensor* scales = find_part(parts_, "weight_scale");
  if (scales != nullptr && (scales->dtype == DType::kU8 || scales->dtype == DType::kF8E8M0)) {
    faults_.bad(scales->name, fmt::format("{} scales (MXFP4 or MXFP8) are not supported",
                                          to_string(scales->dtype)));
    return nullptr;
  }
  const LinearDialect* dialect = choose_dialect(parts_, scheme_);
  if (dialect == nullptr) {
    CHECK(packed != nullptr, "no dialect for parts without weight_packed");
    faults_.wrong_dtype(packed->name, to_string(packed->dtype), "U8 (NVFP4) or I32 (INT4)");
  }
  return dialect;
}

void Assembly::refuse_other_parts(const LinearDialect* dialect) {
  for (const auto& [suffix, tensor] : parts_) {
    if (find_part(parts_, suffix) != tensor) {
      faults_.extra(tensor->name, fmt::format("a second {} of one Linear", printable(suffix)));
    } else if (suffix == "pre_quant_scale") {
      faults_.bad(tensor->name, "scaled activations (NVFP4_AWQ) are not supported");
    } else if (dialect == nullptr && !known_suffix(suffix)) {
      faults_.extra(tensor->name, "not a part of any supported weight format");
    } else if (dialect != nullptr && dialect->rule_of(suffix) == nullptr) {
      faults_.extra(tensor->name, fmt::format("not a part of a {} weight", dialect->name));
    }
  }
}

/// Whether the matrix can be cut into the dialect's words and blocks; finds the INT4 group.
bool Assembly::extents_fit(const LinearDialect& dialect) {
  extents_ = {spec_.rows, spec_.cols, 0};
  if (spec_.cols % dialect.columns_multiple != 0) {
    faults_.bad(spec_.module,
                fmt::format("{} needs a multiple of {} columns, the matrix is {}", dialect.name,
                            dialect.columns_multiple, to_string(Shape{spec_.rows, spec_.cols})));
    return false;
  }
  if (dialect.format == WeightFormat::kInt4Group) find_group();
  return true;
}

void Assembly::find_group() {
  const StoredTensor* scales = find_part(parts_, "weight_scale");
  const bool configured =
      scheme_ && scheme_->format == WeightFormat::kInt4Group && scheme_->group_size > 0;
  int64_t group = configured ? scheme_->group_size : 0;
  if (!configured && scales != nullptr && scales->shape.rank() == 2) {
    const int64_t count = scales->shape[1];
    if (count > 0 && spec_.cols % count == 0) group = spec_.cols / count;
  }
  if (group > 0 && group % kInt4PerWord == 0 && spec_.cols % group == 0) {
    extents_.group = group;
  } else if (configured) {
    faults_.bad(spec_.module, fmt::format("{} columns do not divide into groups of {}, the "
                                          "quantization config's group_size",
                                          spec_.cols, group));
  } else if (scales != nullptr) {
    faults_.wrong_shape(scales->name, to_string(scales->shape),
                        fmt::format("[{}, {} / a multiple of 8]", spec_.rows, spec_.cols));
  }
}

bool Assembly::is_expected(const PartRule& rule) const {
  if (rule.need == PartNeed::kRequired) return true;
  const bool input =
      rule.role == PartRole::kInputScale || rule.role == PartRole::kInverseInputScale;
  return input && scheme_ && scheme_->static_input && same_family(scheme_->format, matrix_.format);
}

void Assembly::report_missing(const PartRule& rule) {
  const std::vector<Shape> shapes = rule.shapes(extents_);
  const std::string extents =
      shapes.empty() ? fmt::format("[{}, groups]", spec_.rows) : join(shapes);
  faults_.missing(fmt::format("{}.{}", spec_.module, rule.suffix),
                  fmt::format("{} {}", join(rule.dtypes), extents));
}

bool Assembly::has_dtype(const PartRule& rule, const StoredTensor& tensor) {
  const bool allowed =
      std::find(rule.dtypes.begin(), rule.dtypes.end(), tensor.dtype) != rule.dtypes.end();
  if (!allowed) faults_.wrong_dtype(tensor.name, to_string(tensor.dtype), join(rule.dtypes));
  return allowed;
}

bool Assembly::has_shape(const PartRule& rule, const StoredTensor& tensor) {
  const std::vector<Shape> shapes = rule.shapes(extents_);
  if (shapes.empty()) return false;  // no group is known, which has been reported
  const bool allowed = std::find(shapes.begin(), shapes.end(), tensor.shape) != shapes.end();
  if (!allowed) faults_.wrong_shape(tensor.name, to_string(tensor.shape), join(shapes));
  return allowed;
}

void Assembly::take(const PartRule& rule, const StoredTensor& tensor) {
  switch (rule.role) {
    case PartRole::kValues:
      matrix_.data = tensor.bytes.data();
      if (matrix_.format == WeightFormat::kBF16) matrix_.format = plain_format(tensor.dtype);
      return;
    case PartRole::kScales:
      return take_scales(tensor);
    case PartRole::kGlobalScale:
      matrix_.global_scale = scalar_of(tensor);
      return;
    case PartRole::kInverseGlobalScale:
      matrix_.global_scale = reciprocal_of(tensor);
      return;
    case PartRole::kInputScale:
      matrix_.input_scale = scalar_of(tensor);
      return;
    case PartRole::kInverseInputScale:
      matrix_.input_scale = reciprocal_of(tensor);
      return;
    case PartRole::kStoredShape:
      return check_stored_shape(tensor);
    case PartRole::kZeroPoints:
      return check_zero_points(tensor);
    case PartRole::kGroupIndex:
      return check_group_index(tensor);
  }
}

void Assembly::take_scales(const StoredTensor& tensor) {
  matrix_.scales = tensor.bytes.data();
  matrix_.scale_dtype = tensor.dtype;
  matrix_.scale_rows = spec_.rows;
  if (matrix_.format == WeightFormat::kNvfp4) {
    matrix_.group_size = kNvfp4Block;
    if (const int64_t at = find_bad_scale(tensor.bytes); at >= 0)
      faults_.bad(tensor.name, fmt::format("NaN or negative at {}", place_of(tensor, at)));
    return;
  }
  const int64_t count = tensor.shape.elements();
  if (matrix_.format == WeightFormat::kInt4Group) {
    matrix_.group_size = static_cast<int32_t>(extents_.group);
  } else {
    // One scale alone can be the one block of a small matrix as well: the numbers are the same, so
    // there the config may say which.
    const bool blocks_wanted = scheme_ && scheme_->format == WeightFormat::kFp8Block;
    if (tensor.shape == blocks_of(spec_) && (count > 1 || blocks_wanted)) {
      matrix_.format = WeightFormat::kFp8Block;
    }
    matrix_.scale_rows = tensor.shape.rank() == 0 ? 1 : tensor.shape[0];
  }
  for (int64_t i = 0; i < count; ++i) {
    const float value = read_float(matrix_.scales, tensor.dtype, i);
    if (!usable_scale(value)) {
      return faults_.bad(tensor.name, fmt::format("{} at {}, wanted a finite number > 0", value,
                                                  place_of(tensor, i)));
    }
  }
}

float Assembly::scalar_of(const StoredTensor& tensor) {
  const float value = read_float(tensor.bytes.data(), tensor.dtype, 0);
  if (!usable_scale(value)) {
    faults_.bad(tensor.name, fmt::format("{}, wanted a finite number > 0", value));
  }
  return value;
}

float Assembly::reciprocal_of(const StoredTensor& tensor) {
  const float value = scalar_of(tensor);
  if (!usable_scale(value)) return value;
  const auto reciprocal = static_cast<float>(1.0 / static_cast<double>(value));
  if (!usable_scale(reciprocal)) {
    faults_.bad(tensor.name, fmt::format("{}, whose reciprocal no float32 holds", value));
  }
  return reciprocal;
}

void Assembly::check_stored_shape(const StoredTensor& tensor) {
  const auto rows = integer_at<int64_t>(tensor, 0);
  const auto cols = integer_at<int64_t>(tensor, 1);
  if (rows != spec_.rows || cols != spec_.cols) {
    faults_.bad(tensor.name,
                fmt::format("says [{}, {}], wanted [{}, {}]", rows, cols, spec_.rows, spec_.cols));
  }
}

/// Symmetric INT4 has zero points of 0: stored plus 8, eight rows a word, unused nibbles free.
void Assembly::check_zero_points(const StoredTensor& tensor) {
  const int64_t groups = tensor.shape[1];
  for (int64_t i = 0; i < tensor.shape.elements(); ++i) {
    const int64_t used = std::min<int64_t>(kInt4PerWord, spec_.rows - i / groups * kInt4PerWord);
    const uint32_t mask = used == kInt4PerWord ? ~0u : (1u << (4 * used)) - 1;
    if (((integer_at<uint32_t>(tensor, i) ^ 0x88888888u) & mask) != 0) {
      return faults_.bad(tensor.name,
                         fmt::format("a zero point other than 0 in word {}: asymmetric INT4 is not "
                                     "supported",
                                     place_of(tensor, i)));
    }
  }
}

/// Column c must be in group c / group_size (CT-7); all -1 is how producers say "in order".
void Assembly::check_group_index(const StoredTensor& tensor) {
  if (extents_.group == 0) return;  // reported already
  const bool unset = integer_at<int32_t>(tensor, 0) == -1;
  for (int64_t c = 0; c < spec_.cols; ++c) {
    const int64_t wanted = unset ? -1 : c / extents_.group;
    const int64_t found = integer_at<int32_t>(tensor, c);
    if (found != wanted) {
      return faults_.bad(tensor.name,
                         fmt::format("column {} in group {}, wanted {}: reordered columns "
                                     "(actorder) are not supported",
                                     c, found, wanted));
    }
  }
}

/// EXC-5: the file decides, but the config must not say otherwise.
void Assembly::check_scheme(const LinearDialect& dialect) {
  const PartRule& rule = dialect.parts.front();
  const StoredTensor* values = find_part(parts_, rule.suffix);
  if (values == nullptr) return;
  if (std::find(rule.dtypes.begin(), rule.dtypes.end(), values->dtype) == rule.dtypes.end()) return;
  const bool plain = dialect.format == WeightFormat::kBF16;
  const WeightFormat stored = plain ? plain_format(values->dtype) : matrix_.format;
  bool agree = plain;
  if (scheme_) {
    const bool unknown = matrix_.scales == nullptr;  // FP8 without its scales: either kind
    agree = stored == scheme_->format || (unknown && same_family(stored, scheme_->format));
  }
  if (agree) return;
  faults_.bad(values->name, fmt::format("stored {}, quantization config says {}", to_string(stored),
                                        scheme_ ? to_string(scheme_->format) : "not quantized"));
}

}  // namespace

WeightMatrix assemble_matrix(const LinearSpec& spec,
                             const WeightParts& parts,
                             const std::optional<QuantScheme>& scheme,
                             FaultReport& faults) {
  const size_t before = faults.lines().size();
  const WeightMatrix matrix = Assembly(spec, parts, scheme, faults).build();
  return faults.lines().size() == before ? matrix : WeightMatrix{};
}

}  // namespace facet
