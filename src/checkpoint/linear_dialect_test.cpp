// What stored_parts() says producers write is what assemble_matrix() takes.

#include "checkpoint/linear_dialect.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/test_parts.h"

namespace facet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr QuantMethod kModelOpt = QuantMethod::kModelOpt;
constexpr QuantMethod kCompressed = QuantMethod::kCompressedTensors;

struct Case {
  std::optional<QuantScheme> scheme;
  QuantMethod method;
  std::vector<std::string> parts;  // of a Linear of kShape
};
const Shape kShape{256, 384};

std::vector<std::string> described(const std::vector<PartForm>& parts) {
  std::vector<std::string> texts;
  for (const PartForm& part : parts) {
    texts.push_back(
        fmt::format("{} {} {}", part.suffix, to_string(part.dtype), to_string(part.shape)));
  }
  return texts;
}

/// Parts of that form whose every scale is usable.
test::Parts made_of(const std::vector<PartForm>& forms) {
  test::Parts parts;
  for (const PartForm& form : forms) {
    const auto count = static_cast<size_t>(form.shape.elements());
    const std::string suffix(form.suffix);
    if (form.role == PartRole::kStoredShape) {
      parts.add(suffix, form.dtype, form.shape, std::vector<int64_t>{kShape[0], kShape[1]});
    } else if (form.role == PartRole::kValues || form.dtype == DType::kF8E4M3) {
      parts.zeros(suffix, form.dtype, form.shape);
    } else if (form.dtype == DType::kF32) {
      parts.add(suffix, form.dtype, form.shape, std::vector<float>(count, 0.5F));
    } else {
      parts.add(suffix, form.dtype, form.shape, std::vector<uint16_t>(count, 0x3f00));
    }
  }
  return parts;
}

TEST(StoredParts, AreWhatProducersWriteAndTheLoaderTakes) {
  const std::vector<Case> cases = {
      {std::nullopt, QuantMethod::kNone, {"weight BF16 [256, 384]"}},
      {QuantScheme{WeightFormat::kNvfp4, 16, true},
       kModelOpt,
       {"weight U8 [256, 192]", "weight_scale F8_E4M3 [256, 24]", "weight_scale_2 F32 []",
        "input_scale F32 []"}},
      {QuantScheme{WeightFormat::kNvfp4, 16, false},
       kModelOpt,
       {"weight U8 [256, 192]", "weight_scale F8_E4M3 [256, 24]", "weight_scale_2 F32 []"}},
      {QuantScheme{WeightFormat::kFp8, 0, true, true},
       kModelOpt,
       {"weight F8_E4M3 [256, 384]", "weight_scale F32 []", "input_scale F32 []"}},
      {QuantScheme{WeightFormat::kFp8Block, 0, false},
       kModelOpt,
       {"weight F8_E4M3 [256, 384]", "weight_scale F32 [2, 3]"}},
      {QuantScheme{WeightFormat::kNvfp4, 16, true},
       kCompressed,
       {"weight_packed U8 [256, 192]", "weight_scale F8_E4M3 [256, 24]",
        "weight_global_scale F32 [1]", "input_global_scale F32 [1]"}},
      {QuantScheme{WeightFormat::kFp8, 0, false},
       kCompressed,
       {"weight F8_E4M3 [256, 384]", "weight_scale BF16 [256, 1]"}},
      {QuantScheme{WeightFormat::kFp8, 0, true, true},
       kCompressed,
       {"weight F8_E4M3 [256, 384]", "weight_scale BF16 [1]", "input_scale F32 [1]"}},
      {QuantScheme{WeightFormat::kFp8Block, 0, false},
       kCompressed,
       {"weight F8_E4M3 [256, 384]", "weight_scale BF16 [2, 3]"}},
      {QuantScheme{WeightFormat::kInt4Group, 32, false},
       kCompressed,
       {"weight_packed I32 [256, 48]", "weight_scale BF16 [256, 12]", "weight_shape I64 [2]"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::PrintToString(c.parts));
    const auto forms =
        stored_parts({std::string(test::kModule), kShape[0], kShape[1]}, c.scheme, c.method);
    EXPECT_EQ(described(forms), c.parts);
    EXPECT_THAT(test::assemble(made_of(forms), kShape, c.scheme).faults, ElementsAre());
  }
}

TEST(StoredParts, ColumnsThatDoNotDivideAreRefused) {
  const auto refusal = [](int64_t cols, const QuantScheme& scheme) -> std::string {
    try {
      stored_parts({"layers.0.mlp.up_proj", 8, cols}, scheme, kCompressed);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
      return error.what();
    }
    return {};
  };
  EXPECT_THAT(refusal(24, {WeightFormat::kNvfp4, 16, false}),
              testing::AllOf(HasSubstr("layers.0.mlp.up_proj"), HasSubstr("24 columns"),
                             HasSubstr("multiple of 16")));
  EXPECT_THAT(refusal(48, {WeightFormat::kInt4Group, 32, false}), HasSubstr("multiple of 32"));
  EXPECT_EQ(refusal(24, {WeightFormat::kFp8, 0, false}), "");
}

}  // namespace
}  // namespace facet
