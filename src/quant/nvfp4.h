#pragma once

#include <array>
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

/// The producers' E4M3 code for a block's scale: amax(|block|) / 6 / global_scale, held within
/// [2^-9, 448].
uint8_t nvfp4_rule_scale(float block_amax, float global_scale);

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

/// The scale of a matrix whose largest magnitude is `amax`: amax / 2688, held above 2^-100.
float nvfp4_global_scale(float amax);

/// Scales that encode_nvfp4_row tries for a block, as distances from the code of the producers'
/// rule: from 7 / 6 of the largest weight being representable to 4 / 6.
inline constexpr std::array<int32_t, 8> kNvfp4Candidates = {0, -2, -1, 1, 2, 3, 4, 5};

/// Quantises one row for a small squared error instead of the producers' bytes. Of the candidates,
/// held within codes 1 … 0x7e, a block takes the first with the least sum of (|w| - e2m1(code) *
/// step)², added in the order of columns, where step = e4m3(scale) * global_scale and code =
/// nearest E2M1 of |w| * (1 / step), saturating; the sign is w's. w: [cols], finite, at most 2688
/// global scales large; cols a multiple of 16 (CHECKed); codes: [cols / 2]; scales: [cols / 16].
void encode_nvfp4_row(std::span<const float> w,
                      float global_scale,
                      std::span<uint8_t> codes,
                      std::span<uint8_t> scales);

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
