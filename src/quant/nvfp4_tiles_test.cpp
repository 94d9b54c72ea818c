#include "quant/nvfp4_tiles.h"

#include <gtest/gtest.h>
#include <random>

#include "quant/float_formats.h"

namespace facet {
namespace {

struct Stored {
  std::vector<uint8_t> codes;
  std::vector<uint8_t> scales;
  WeightMatrix matrix;
};

/// Any codes under any scales but NaN.
Stored random_matrix(int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  Stored stored;
  for (int64_t i = 0; i < rows * cols / 2; ++i)
    stored.codes.push_back(static_cast<uint8_t>(random()));
  for (int64_t i = 0; i < rows * cols / 16; ++i) {
    const auto code = static_cast<uint8_t>(random());
    stored.scales.push_back((code & 0x7f) == 0x7f ? 0 : code);
  }
  stored.matrix = {.format = WeightFormat::kNvfp4,
                   .rows = rows,
                   .cols = cols,
                   .data = reinterpret_cast<const std::byte*>(stored.codes.data()),
                   .scales = reinterpret_cast<const std::byte*>(stored.scales.data()),
                   .scale_dtype = DType::kF8E4M3,
                   .scale_rows = rows,
                   .group_size = 16,
                   .global_scale = 1.0F};
  return stored;
}

TEST(Nvfp4Tiles, EveryScaleKeepsItsValue) {
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) == 0x7f) continue;
    const TileScale scale = tile_scale(static_cast<uint8_t>(code));
    const float magnitude =
        std::ldexp(1.0F + static_cast<float>(scale.code % 8) / 8.0F, scale.code / 8 - 9);
    const float value = e4m3_table()[static_cast<size_t>(code)];
    EXPECT_EQ(scale.keep == 0 ? 0.0F : scale.flip != 0 ? -magnitude : magnitude, value) << code;
  }
}

TEST(Nvfp4Tiles, HoldWhatTheMatrixHolds) {
  for (const auto& [rows, cols] : {std::pair{16, 64}, {1, 16}, {35, 144}, {48, 704}}) {
    const Stored stored = random_matrix(rows, cols, 7);
    const std::vector<uint8_t> tiles = pack_nvfp4_tiles(stored.matrix);
    EXPECT_EQ(static_cast<int64_t>(tiles.size()), nvfp4_tiles_bytes(rows, cols));
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      dequantize_row(stored.matrix, r, row);
      for (int64_t c = 0; c < cols; ++c) {
        ASSERT_EQ(nvfp4_tile_value(tiles, cols, r, c), row[static_cast<size_t>(c)])
            << r << "," << c;
      }
    }
  }
}

TEST(Nvfp4Tiles, GateAndUpShareBands) {
  const Stored gate = random_matrix(20, 80, 1);
  const Stored up = random_matrix(20, 80, 2);
  const std::vector<uint8_t> tiles = pack_nvfp4_pair_tiles(gate.matrix, up.matrix);
  EXPECT_EQ(static_cast<int64_t>(tiles.size()), nvfp4_pair_tiles_bytes(20, 80));
  std::vector<float> row(80);
  for (int64_t r = 0; r < 20; ++r) {
    for (const bool second : {false, true}) {
      dequantize_row(second ? up.matrix : gate.matrix, r, row);
      const int64_t packed = r / 8 * 16 + r % 8 + (second ? 8 : 0);
      for (int64_t c = 0; c < 80; ++c) {
        ASSERT_EQ(nvfp4_tile_value(tiles, 80, packed, c), row[static_cast<size_t>(c)]);
      }
    }
  }
}

TEST(Nvfp4Tiles, PaddingIsZero) {
  const Stored stored = random_matrix(3, 16, 5);
  const std::vector<uint8_t> tiles = pack_nvfp4_tiles(stored.matrix);
  for (int64_t r = 0; r < 16; ++r) {
    for (int64_t c = 0; c < 64; ++c) {
      if (r < 3 && c < 16) continue;
      EXPECT_EQ(nvfp4_tile_value(tiles, 16, r, c), 0.0F);
    }
  }
}

}  // namespace
}  // namespace facet
