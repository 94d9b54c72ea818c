#include "quant/format.h"

#include "base/check.h"

namespace facet {

std::string_view to_string(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "F32";
    case WeightFormat::kF16:
      return "F16";
    case WeightFormat::kBF16:
      return "BF16";
    case WeightFormat::kFp8:
      return "FP8";
    case WeightFormat::kFp8Block:
      return "FP8 block";
    case WeightFormat::kNvfp4:
      return "NVFP4";
    case WeightFormat::kInt4Group:
      return "INT4";
    case WeightFormat::kInt8Group:
      return "INT8";
  }
  CHECK(false, "weight format {} has no name", static_cast<int>(format));
}

}  // namespace facet
