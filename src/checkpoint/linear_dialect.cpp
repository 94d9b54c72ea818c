#include "checkpoint/linear_dialect.h"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <initializer_list>

#include "base/error.h"
#include "quant/fp8.h"
#include "quant/int4.h"
#include "quant/nvfp4.h"

namespace facet {
namespace {

using Extents = LinearExtents;
using Shapes = std::vector<Shape>;

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

Shapes all_values(const Extents& e) { return {Shape{e.rows, e.cols}}; }
Shapes two_a_byte(const Extents& e) { return {Shape{e.rows, e.cols / 2}}; }
Shapes eight_a_word(const Extents& e) { return {Shape{e.rows, e.cols / kInt4PerWord}}; }
Shapes block_scales(const Extents& e) { return {Shape{e.rows, e.cols / kNvfp4Block}}; }
Shapes fp8_scales(const Extents& e) {
  return {Shape{e.rows, 1}, Shape{e.rows}, Shape{1}, Shape{},
          Shape{ceil_div(e.rows, kFp8Block), ceil_div(e.cols, kFp8Block)}};
}
Shapes group_scales(const Extents& e) {
  return e.group == 0 ? Shapes{} : Shapes{Shape{e.rows, e.cols / e.group}};
}
Shapes zero_points(const Extents& e) {
  return e.group == 0 ? Shapes{} : Shapes{Shape{ceil_div(e.rows, kInt4PerWord), e.cols / e.group}};
}
Shapes scalar(const Extents& /*e*/) { return {Shape{}, Shape{1}}; }
Shapes rows_and_cols(const Extents& /*e*/) { return {Shape{2}}; }
Shapes one_a_column(const Extents& e) { return {Shape{e.cols}}; }

constexpr std::array kFloats = {DType::kBF16, DType::kF16, DType::kF32};
constexpr std::array kF32OrBf16 = {DType::kF32, DType::kBF16};
constexpr std::array kF32 = {DType::kF32};
constexpr std::array kU8 = {DType::kU8};
constexpr std::array kE4m3 = {DType::kF8E4M3};
constexpr std::array kI32 = {DType::kI32};
constexpr std::array kI64 = {DType::kI64};

constexpr PartNeed kRequired = PartNeed::kRequired;
constexpr PartNeed kOptional = PartNeed::kOptional;

constexpr std::array<PartRule, 1> kPlainParts = {{
    {"weight", PartRole::kValues, kRequired, kFloats, all_values},
}};
constexpr std::array<PartRule, 4> kModelOptNvfp4Parts = {{
    {"weight", PartRole::kValues, kRequired, kU8, two_a_byte},
    {"weight_scale", PartRole::kScales, kRequired, kE4m3, block_scales},
    {"weight_scale_2", PartRole::kGlobalScale, kRequired, kF32, scalar},
    {"input_scale", PartRole::kInputScale, kOptional, kF32, scalar},
}};
constexpr std::array<PartRule, 3> kFp8Parts = {{
    {"weight", PartRole::kValues, kRequired, kE4m3, all_values},
    {"weight_scale", PartRole::kScales, kRequired, kFloats, fp8_scales},
    {"input_scale", PartRole::kInputScale, kOptional, kF32OrBf16, scalar},
}};
constexpr std::array<PartRule, 4> kPackedNvfp4Parts = {{
    {"weight_packed", PartRole::kValues, kRequired, kU8, two_a_byte},
    {"weight_scale", PartRole::kScales, kRequired, kE4m3, block_scales},
    {"weight_global_scale", PartRole::kInverseGlobalScale, kRequired, kF32, scalar},
    {"input_global_scale", PartRole::kInverseInputScale, kOptional, kF32, scalar},
}};
constexpr std::array<PartRule, 5> kPackedInt4Parts = {{
    {"weight_packed", PartRole::kValues, kRequired, kI32, eight_a_word},
    {"weight_scale", PartRole::kScales, kRequired, kFloats, group_scales},
    {"weight_shape", PartRole::kStoredShape, kRequired, kI64, rows_and_cols},
    {"weight_zero_point", PartRole::kZeroPoints, kOptional, kI32, zero_points},
    {"weight_g_idx", PartRole::kGroupIndex, kOptional, kI32, one_a_column},
}};

constexpr std::array<LinearDialect, 5> kDialects = {{
    {"plain", WeightFormat::kBF16, 1, kPlainParts},
    {"FP8", WeightFormat::kFp8, 1, kFp8Parts},
    {"ModelOpt NVFP4", WeightFormat::kNvfp4, kNvfp4Block, kModelOptNvfp4Parts},
    {"compressed-tensors NVFP4", WeightFormat::kNvfp4, kNvfp4Block, kPackedNvfp4Parts},
    {"compressed-tensors INT4", WeightFormat::kInt4Group, kInt4PerWord, kPackedInt4Parts},
}};
constexpr const LinearDialect* kPlain = &kDialects[0];
constexpr const LinearDialect* kFp8 = &kDialects[1];
constexpr const LinearDialect* kModelOptNvfp4 = &kDialects[2];
constexpr const LinearDialect* kPackedNvfp4 = &kDialects[3];
constexpr const LinearDialect* kPackedInt4 = &kDialects[4];

bool has_any(const WeightParts& parts, std::initializer_list<std::string_view> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](std::string_view suffix) { return find_part(parts, suffix) != nullptr; });
}

/// Whether the values of the dialect lie in the tensor of that suffix and of that dtype, if given.
bool stores(const LinearDialect& dialect, std::string_view suffix, std::optional<DType> dtype) {
  const PartRule* rule = dialect.rule_of(suffix);
  return rule != nullptr && rule->role == PartRole::kValues &&
         (!dtype ||
          std::find(rule->dtypes.begin(), rule->dtypes.end(), *dtype) != rule->dtypes.end());
}

const LinearDialect* dialect_of_names(const WeightParts& parts) {
  const bool nvfp4 = has_any(parts, {"weight_global_scale", "input_global_scale"});
  const bool int4 = has_any(parts, {"weight_shape", "weight_zero_point", "weight_g_idx"});
  const bool model_opt = has_any(parts, {"weight_scale_2"});
  if (has_any(parts, {"weight_packed"})) {
    if (nvfp4 != int4) return nvfp4 ? kPackedNvfp4 : kPackedInt4;
    return nullptr;
  }
  if (has_any(parts, {"weight"})) return model_opt ? kModelOptNvfp4 : nullptr;
  if (model_opt) return kModelOptNvfp4;
  if (nvfp4) return kPackedNvfp4;
  return int4 ? kPackedInt4 : nullptr;
}

const LinearDialect* dialect_of_scheme(const std::optional<QuantScheme>& scheme,
                                       QuantMethod method) {
  if (!scheme) return kPlain;
  switch (scheme->format) {
    case WeightFormat::kFp8:
    case WeightFormat::kFp8Block:
      return kFp8;
    case WeightFormat::kNvfp4:
      return method == QuantMethod::kModelOpt ? kModelOptNvfp4 : kPackedNvfp4;
    case WeightFormat::kInt4Group:
      return kPackedInt4;
    case WeightFormat::kF32:
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
    case WeightFormat::kInt8Group:  // in no checkpoint
      break;
  }
  return kPlain;
}

/// Throws unless the columns are whole words or blocks, and whole groups of INT4.
void check_columns(const LinearSpec& spec, const LinearDialect& dialect, int64_t group) {
  const int64_t multiple = std::max(dialect.columns_multiple, group);
  if (spec.cols % multiple == 0) return;
  throw Error(
      ErrorCode::kBadCheckpoint,
      fmt::format("{} columns, wanted a multiple of {} for {}", spec.cols, multiple, dialect.name),
      spec.module);
}

/// Among the allowed shapes of a part the one producers write: ModelOpt's scalars have rank 0,
/// compressed-tensors' are [1], its FP8 scales are a column.
Shape usual_shape(const PartRule& rule,
                  const LinearExtents& extents,
                  const std::optional<QuantScheme>& scheme,
                  QuantMethod method) {
  const Shapes shapes = rule.shapes(extents);
  if (shapes.size() == 1) return shapes.front();
  const Shape one = method == QuantMethod::kModelOpt ? Shape{} : Shape{1};
  if (rule.role != PartRole::kScales) return one;
  if (scheme->format == WeightFormat::kFp8Block) return shapes.back();
  return scheme->one_scale ? one : shapes.front();
}

}  // namespace

const PartRule* LinearDialect::rule_of(std::string_view suffix) const {
  const auto found = std::find_if(parts.begin(), parts.end(),
                                  [&](const PartRule& rule) { return rule.suffix == suffix; });
  return found == parts.end() ? nullptr : &*found;
}

const StoredTensor* find_part(const WeightParts& parts, std::string_view suffix) {
  const auto found = std::find_if(parts.begin(), parts.end(),
                                  [&](const auto& part) { return part.first == suffix; });
  return found == parts.end() ? nullptr : found->second;
}

const LinearDialect* choose_dialect(const WeightParts& parts,
                                    const std::optional<QuantScheme>& scheme) {
  if (const LinearDialect* named = dialect_of_names(parts)) return named;
  const bool packed = has_any(parts, {"weight_packed"});
  const std::string_view suffix = packed ? "weight_packed" : "weight";
  const StoredTensor* values = find_part(parts, suffix);
  if (values != nullptr) {
    for (const LinearDialect& dialect : kDialects) {
      if (stores(dialect, suffix, values->dtype)) return &dialect;
    }
  } else if (const StoredTensor* scales = find_part(parts, "weight_scale")) {
    return scales->dtype == DType::kF8E4M3 ? kModelOptNvfp4 : kFp8;
  }
  if (scheme) {
    const bool block = scheme->format == WeightFormat::kFp8Block;
    const WeightFormat format = block ? WeightFormat::kFp8 : scheme->format;
    for (const LinearDialect& dialect : kDialects) {
      const bool fits = values == nullptr || stores(dialect, suffix, std::nullopt);
      if (dialect.format == format && fits) return &dialect;
    }
  }
  return packed ? nullptr : kPlain;
}

bool known_suffix(std::string_view suffix) {
  return std::any_of(kDialects.begin(), kDialects.end(), [&](const LinearDialect& dialect) {
    return dialect.rule_of(suffix) != nullptr;
  });
}

std::vector<PartForm> stored_parts(const LinearSpec& spec,
                                   const std::optional<QuantScheme>& scheme,
                                   QuantMethod method) {
  const LinearDialect& dialect = *dialect_of_scheme(scheme, method);
  const LinearExtents extents = {spec.rows, spec.cols, scheme ? scheme->group_size : 0};
  check_columns(spec, dialect, extents.group);
  std::vector<PartForm> parts;
  for (const PartRule& rule : dialect.parts) {
    const bool input =
        rule.role == PartRole::kInputScale || rule.role == PartRole::kInverseInputScale;
    if (rule.need == PartNeed::kOptional && !(input && scheme->static_input)) continue;
    // ModelOpt's FP8 scales are float32, compressed-tensors' have the dtype of the model.
    const bool wide = method == QuantMethod::kModelOpt && dialect.format == WeightFormat::kFp8 &&
                      rule.role == PartRole::kScales;
    parts.push_back({rule.suffix, rule.role, wide ? DType::kF32 : rule.dtypes.front(),
                     usual_shape(rule, extents, scheme, method)});
  }
  return parts;
}

}  // namespace facet
