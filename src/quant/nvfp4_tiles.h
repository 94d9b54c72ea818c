#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/weight_matrix.h"

namespace facet {

// NVFP4 as tensor cores read it, made once from the stored form; nothing is lost. A matrix [rows,
// cols] is cut into bands of 16 rows and steps of 64 columns, padded with zeros. Band b, step s is
// one block of 576 bytes at (b * steps + s) * 576, so that a band's columns are one stream:
//
//   lane = row % 8 * 4 + col % 64 / 16       the lane of a warp whose fragment holds the value
//   half = row % 16 / 8
//   code:  in the little-endian word at byte lane * 16 + half * 8 + col % 16 / 8 * 4, which is
//          spread_codes() of the eight codes of its columns
//   scale: byte 512 + lane * 2 + half: of the 16 columns that the lane holds in that row
//
// A scale is stored as code = exponent * 8 + mantissa, worth 2^(exponent - 9) * (1 + mantissa / 8):
// E4M3 without sign or subnormals. Where the file's scale is zero the codes become zero, where it
// is negative their signs turn.
//
// In a word, columns 0-3 take the low 16 bits and 4-7 the high ones, each half as
//   15   14   13   12   11-9  8-6  5-3  2-0
//   s0   s2   s3   s1   m3    m0   m1   m2       (s: sign, m: the other three bits of a code)
// so that moving the whole word by 0, 3, 6 and -3 bits puts a magnitude of each half at a BF16's
// lowest exponent bits, and two of the signs come along.
inline constexpr int32_t kTileRows = 16;
inline constexpr int32_t kTileCols = 64;
inline constexpr int32_t kTileBytes = 576;

constexpr int64_t tile_steps(int64_t cols) { return (cols + kTileCols - 1) / kTileCols; }
constexpr int64_t tile_bands(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
/// Bytes of the tile form of [rows, cols].
constexpr int64_t nvfp4_tiles_bytes(int64_t rows, int64_t cols) {
  return tile_bands(rows) * tile_steps(cols) * kTileBytes;
}
/// The same for a gate and an up matrix of [rows, cols] each, in bands of 8 rows of either.
constexpr int64_t nvfp4_pair_tiles_bytes(int64_t rows, int64_t cols) {
  return (rows + 7) / 8 * tile_steps(cols) * kTileBytes;
}

/// Where column j % 4 of a half word has its magnitude and its sign.
inline constexpr int32_t kTileMagnitude[4] = {6, 3, 0, 9};
inline constexpr int32_t kTileSign[4] = {15, 12, 14, 13};

/// A tile's word of eight codes, nibble j the one of column j.
constexpr uint32_t spread_codes(uint32_t nibbles) {
  uint32_t word = 0;
  for (int j = 0; j < 8; ++j) {
    const uint32_t code = nibbles >> (j * 4);
    word |= (code & 7u) << (kTileMagnitude[j % 4] + j / 4 * 16);
    word |= ((code >> 3) & 1u) << (kTileSign[j % 4] + j / 4 * 16);
  }
  return word;
}

/// What a tile holds for a scale of the file: its code, and what happens to the 16 codes below it.
struct TileScale {
  uint8_t code = 0;
  uint8_t keep = 0x0f;  ///< mask of each code's bits; 0 under a scale of zero
  uint8_t flip = 0;     ///< 8 under a negative scale
};
/// Of an E4M3 code that is no NaN.
TileScale tile_scale(uint8_t e4m3);

/// The tile form of an NVFP4 matrix (CHECKed), without its global scale.
std::vector<uint8_t> pack_nvfp4_tiles(const WeightMatrix& w);
/// Rows 0-7 of band b are rows 8b … 8b+7 of `gate`, rows 8-15 those of `up`: both halves of an
/// activation meet in one lane. Same shapes (CHECKed).
std::vector<uint8_t> pack_nvfp4_pair_tiles(const WeightMatrix& gate, const WeightMatrix& up);

/// e2m1 * scale of one value: `row` counts the rows of bands, as packed.
float nvfp4_tile_value(std::span<const uint8_t> tiles, int64_t cols, int64_t row, int64_t col);

}  // namespace facet
