#include "quant/nvfp4_tiles.h"

#include <cmath>

#include "base/check.h"
#include "quant/float_formats.h"
#include "quant/nvfp4.h"

namespace facet {
namespace {

/// Writes row `from` of `w` into row `row` of the bands.
void pack_row(const WeightMatrix& w, int64_t from, int64_t row, std::vector<uint8_t>& tiles) {
  const int64_t steps = tile_steps(w.cols);
  const int64_t half = row % kTileRows / 8;
  for (int64_t col = 0; col < w.cols; col += kNvfp4Block) {
    const int64_t block = (row / kTileRows * steps + col / kTileCols) * kTileBytes;
    const int64_t lane = row % 8 * 4 + col % kTileCols / kNvfp4Block;
    const auto* codes = reinterpret_cast<const uint8_t*>(w.data) + from * (w.cols / 2) + col / 2;
    const TileScale scale = tile_scale(reinterpret_cast<const uint8_t*>(
        w.scales)[from * (w.cols / kNvfp4Block) + col / kNvfp4Block]);
    tiles[static_cast<size_t>(block + 512 + lane * 2 + half)] = scale.code;
    for (int64_t eight = 0; eight < 2; ++eight) {
      uint32_t nibbles = 0;
      for (int64_t i = 0; i < 4; ++i) {
        const int kept = codes[eight * 4 + i] & (scale.keep * 0x11);
        nibbles |= static_cast<uint32_t>(kept ^ (scale.flip * 0x11)) << (i * 8);
      }
      const uint32_t word = spread_codes(nibbles);
      for (int64_t i = 0; i < 4; ++i) {
        tiles[static_cast<size_t>(block + lane * 16 + half * 8 + eight * 4 + i)] =
            static_cast<uint8_t>(word >> (i * 8));
      }
    }
  }
}

void check_nvfp4(const WeightMatrix& w) {
  CHECK(w.format == WeightFormat::kNvfp4 && w.cols % kNvfp4Block == 0, "{} of {} columns as tiles",
        to_string(w.format), w.cols);
}

}  // namespace

TileScale tile_scale(uint8_t e4m3) {
  const int magnitude = e4m3 & 0x7f;
  if (magnitude == 0) return {0, 0, 0};
  TileScale scale;
  scale.flip = (e4m3 & 0x80) != 0 ? 8 : 0;
  if (magnitude >= 8) {
    scale.code = static_cast<uint8_t>(magnitude + 2 * 8);
  } else {
    // A subnormal, magnitude * 2^-9: its highest bit becomes the hidden one.
    const int exponent = magnitude >= 4 ? 2 : magnitude >= 2 ? 1 : 0;
    scale.code = static_cast<uint8_t>(exponent * 8 + ((magnitude << (3 - exponent)) & 7));
  }
  return scale;
}

std::vector<uint8_t> pack_nvfp4_tiles(const WeightMatrix& w) {
  check_nvfp4(w);
  std::vector<uint8_t> tiles(static_cast<size_t>(nvfp4_tiles_bytes(w.rows, w.cols)));
  for (int64_t r = 0; r < w.rows; ++r) pack_row(w, r, r, tiles);
  return tiles;
}

std::vector<uint8_t> pack_nvfp4_pair_tiles(const WeightMatrix& gate, const WeightMatrix& up) {
  check_nvfp4(gate);
  check_nvfp4(up);
  CHECK(gate.rows == up.rows && gate.cols == up.cols, "gate [{}, {}], up [{}, {}]", gate.rows,
        gate.cols, up.rows, up.cols);
  std::vector<uint8_t> tiles(static_cast<size_t>(nvfp4_pair_tiles_bytes(gate.rows, gate.cols)));
  for (int64_t r = 0; r < gate.rows; ++r) {
    pack_row(gate, r, r / 8 * kTileRows + r % 8, tiles);
    pack_row(up, r, r / 8 * kTileRows + 8 + r % 8, tiles);
  }
  return tiles;
}

float nvfp4_tile_value(std::span<const uint8_t> tiles, int64_t cols, int64_t row, int64_t col) {
  const int64_t block = (row / kTileRows * tile_steps(cols) + col / kTileCols) * kTileBytes;
  const int64_t lane = row % 8 * 4 + col % kTileCols / kNvfp4Block;
  const int64_t half = row % kTileRows / 8;
  uint32_t word = 0;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t at = block + lane * 16 + half * 8 + col % 16 / 8 * 4 + i;
    word |= static_cast<uint32_t>(tiles[static_cast<size_t>(at)]) << (i * 8);
  }
  const int64_t base = col % 8 / 4 * 16;
  const uint32_t magnitude = (word >> (kTileMagnitude[col % 4] + base)) & 7u;
  const uint32_t sign = (word >> (kTileSign[col % 4] + base)) & 1u;
  const int scale = tiles[static_cast<size_t>(block + 512 + lane * 2 + half)];
  const float step = std::ldexp(1.0F + static_cast<float>(scale % 8) / 8.0F, scale / 8 - 9);
  return kE2m1Values[magnitude + sign * 8] * step;
}

}  // namespace facet
