#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <gmock/gmock.h>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "checkpoint/assemble.h"

namespace facet::test {

inline constexpr std::string_view kModule = "model.layers.0.experts.3.up_proj";

/// For tests: the stored tensors of one Linear named kModule, made by hand, at odd addresses.
class Parts {
 public:
  template <typename T>
  Parts& add(std::string suffix, DType dtype, Shape shape, const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    CHECK(shape.elements() * bits_of(dtype) / 8 == static_cast<int64_t>(bytes), "{}", suffix);
    Part& part = parts_.emplace_back(std::move(suffix), dtype, shape);
    part.buffer.resize(bytes + 1);
    std::memcpy(part.buffer.data() + 1, values.data(), bytes);
    return *this;
  }
  Parts& zeros(std::string suffix, DType dtype, Shape shape) {
    const auto bytes = static_cast<size_t>(shape.elements() * bits_of(dtype) / 8);
    return add(std::move(suffix), dtype, shape, std::vector<uint8_t>(bytes));
  }
  Parts& scalar(std::string suffix, float value, Shape shape = {}) {
    return add(std::move(suffix), DType::kF32, shape, std::vector<float>{value});
  }
  Parts& drop(std::string_view suffix) {
    std::erase_if(parts_, [&](const Part& part) { return part.suffix == suffix; });
    return *this;
  }
  /// Views of this object.
  WeightParts get() {
    WeightParts views;
    for (Part& part : parts_) {
      part.tensor = {std::string(kModule) + "." + part.suffix, part.dtype, part.shape,
                     std::span(part.buffer).subspan(1), "model.safetensors"};
      views.emplace_back(part.suffix, &part.tensor);
    }
    return views;
  }

 private:
  struct Part {
    Part(std::string suffix_, DType dtype_, Shape shape_)
        : suffix(std::move(suffix_)), dtype(dtype_), shape(shape_) {}
    std::string suffix;
    DType dtype;
    Shape shape;
    std::vector<std::byte> buffer;
    StoredTensor tensor;
  };
  std::vector<Part> parts_;
};

struct Assembled {
  std::unique_ptr<Parts> parts;  ///< what `matrix` views
  WeightMatrix matrix;
  std::vector<std::string> faults;
};

inline Assembled assemble(Parts parts,
                          Shape shape,
                          const std::optional<QuantScheme>& scheme = std::nullopt) {
  Assembled result{std::make_unique<Parts>(std::move(parts)), {}, {}};
  FaultReport faults;
  const LinearSpec spec{std::string(kModule), shape[0], shape[1]};
  result.matrix = assemble_matrix(spec, result.parts->get(), scheme, faults);
  CHECK(result.matrix.empty() == !faults.empty(), "a matrix in spite of faults, or neither");
  result.faults = faults.lines();
  return result;
}

inline constexpr QuantScheme kNvfp4Scheme{WeightFormat::kNvfp4, 16, false};
inline constexpr QuantScheme kFp8Scheme{WeightFormat::kFp8, 0, false};
inline constexpr QuantScheme kFp8BlockScheme{WeightFormat::kFp8Block, 0, false};
inline constexpr QuantScheme kInt4Scheme{WeightFormat::kInt4Group, 32, false};

/// Matches a fault of the tensor of that suffix that contains `text`.
inline testing::Matcher<std::string> names(std::string_view suffix, std::string_view text) {
  return testing::AllOf(testing::HasSubstr(std::string(kModule) + "." + std::string(suffix) + ":"),
                        testing::HasSubstr(std::string(text)));
}

// Faultless Linears of shape kSmall.
inline const Shape kSmall{4, 64};
inline Parts modelopt_nvfp4() {
  Parts parts;
  return parts.add("weight", DType::kU8, {4, 32}, std::vector<uint8_t>(128, 0x21))
      .add("weight_scale", DType::kF8E4M3, {4, 4}, std::vector<uint8_t>(16, 0x38))
      .scalar("weight_scale_2", 0.5F)
      .scalar("input_scale", 0.25F);
}
inline Parts packed_nvfp4() {
  Parts parts;
  return parts.add("weight_packed", DType::kU8, {4, 32}, std::vector<uint8_t>(128, 0x21))
      .add("weight_scale", DType::kF8E4M3, {4, 4}, std::vector<uint8_t>(16, 0x38))
      .scalar("weight_global_scale", 2.0F, {1})
      .scalar("input_global_scale", 4.0F, {1});
}
inline Parts fp8(Shape scale_shape, float scale = 0.5F) {
  Parts parts;
  const std::vector<float> scales(static_cast<size_t>(scale_shape.elements()), scale);
  return parts.add("weight", DType::kF8E4M3, {4, 64}, std::vector<uint8_t>(256, 0x38))
      .add("weight_scale", DType::kF32, scale_shape, scales);
}
inline Parts packed_int4(int64_t groups = 2) {
  Parts parts;
  const std::vector<uint16_t> scales(static_cast<size_t>(4 * groups), 0x3f00);
  return parts.add("weight_packed", DType::kI32, {4, 8}, std::vector<uint32_t>(32, 0x99999999u))
      .add("weight_scale", DType::kBF16, {4, groups}, scales)
      .add("weight_shape", DType::kI64, {2}, std::vector<int64_t>{4, 64});
}

}  // namespace facet::test
