#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace facet {

/// NVFP4: E2M1 codes, two a byte (low nibble = even column), an E4M3 scale for each block of 16
/// consecutive columns, a float32 scale for the matrix.
inline constexpr int32_t kNvfp4Block = 16;

/// out[c] = e2m1(code[c]) * e4m3(scales[c / 16]) * global_scale, in float32 and that order: the
/// first product is exact, so the value is rounded once.
/// codes: [out.size() / 2]; scales: [out.size() / 16]; out.size() is a multiple of 16 (CHECKed).
void decode_nvfp4_row(const std::byte* codes,
                      const std::byte* scales,
                      float global_scale,
                      std::span<float> out);

struct Nvfp4Matrix {
  std::vector<uint8_t> codes;   ///< [rows, cols / 2]
  std::vector<uint8_t> scales;  ///< E4M3 [rows, cols / 16]
  float global_scale = 1.0F;
};

/// Quantises w: [rows, cols] with the producers' rule: global_scale = amax(|w|) / 2688 (1 if that
/// is zero) unless given; block scale = E4M3 of amax(|block|) / 6 / global_scale, held within
/// [2^-9, 448]; code = nearest E2M1 of w / (block scale * global_scale), saturating. `cols` must be
/// a multiple of 16 (CHECKed), every w finite, else Error{kBadInput}.
Nvfp4Matrix quantize_nvfp4(std::span<const float> w,
                           int64_t rows,
                           int64_t cols,
                           std::optional<float> global_scale = std::nullopt);

/// What a W4A4 product makes of its activations, dequantised again. Per block of 16 values of x
/// with m = amax(|block|), g = 1 / input_scale: SF = e4m3(g * m / 6), code = e2m1(x * (g / SF)),
/// out = e2m1(code) * (SF * input_scale); a block with SF = 0 gives zeros. x, out: float32, same
/// size, a multiple of 16 (CHECKed), may be the same memory. input_scale > 0. FlashInfer, without
/// its approximate reciprocals.
void quantize_activation_nvfp4(std::span<const float> x, float input_scale, std::span<float> out);

/// Where SM100 and SM120 kernels want block scale (row, scale_col) of a matrix with `scale_cols`
/// scales a row: a byte offset in tiles of 128 rows x 4 scales (FlashInfer layout 0).
int64_t nvfp4_scale_offset_128x4(int64_t row, int64_t scale_col, int64_t scale_cols);
/// Size of that layout: rows padded to 128, scale columns to 4. Padding bytes must be zero.
int64_t nvfp4_scale_bytes_128x4(int64_t rows, int64_t scale_cols);

}  // namespace facet
