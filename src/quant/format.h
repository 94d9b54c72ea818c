#pragma once

#include <cstdint>
#include <string_view>

namespace facet {

/// How the values of one weight matrix are stored. docs: one row per format in quant/README.md.
enum class WeightFormat : uint8_t {
  kF32,        ///< plain values
  kF16,        ///< plain values
  kBF16,       ///< plain values
  kFp8,        ///< E4M3 values times one scale per row, or one for the whole matrix
  kFp8Block,   ///< E4M3 values times one scale per 128 x 128 block
  kNvfp4,      ///< E2M1 codes, an E4M3 scale per 16 columns, a float32 scale for the whole matrix
  kInt4Group,  ///< 4-bit integers stored plus 8, one scale per group of columns
  kInt8Group,  ///< signed 8-bit integers, one scale per group of columns; no checkpoint has it
};

/// "BF16", "FP8", "NVFP4", … as messages and `info` print it.
std::string_view to_string(WeightFormat format);

}  // namespace facet
