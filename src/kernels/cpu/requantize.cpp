#include "kernels/cpu/requantize.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "quant/nvfp4.h"

namespace facet::cpu {
namespace {

constexpr int64_t kPieceWeights = 1 << 16;

int64_t rows_per_piece(const WeightMatrix& matrix) {
  return std::max<int64_t>(1, kPieceWeights / std::max<int64_t>(1, matrix.cols));
}

Isa isa_of(const CpuOptions& options) {
  const std::vector<Isa> isas = supported_isas();
  const Isa isa = options.isa.value_or(best_isa());
  CHECK(std::find(isas.begin(), isas.end(), isa) != isas.end(), "{} is not here", to_string(isa));
  return isa;
}

}  // namespace

Requantizer::Requantizer(const CpuOptions& options)
    : kernels_(kernel_table(isa_of(options))), pool_(options.threads) {}

std::optional<WeightMatrix> Requantizer::plan(const WeightMatrix& from, WeightFormat format) {
  const bool plain = from.format == WeightFormat::kBF16 || from.format == WeightFormat::kF16 ||
                     from.format == WeightFormat::kF32;
  if (from.empty() || !plain) return std::nullopt;
  if (format == WeightFormat::kBF16) {
    return from.format == format ? std::optional(from) : std::nullopt;
  }
  WeightMatrix to;
  to.format = format;
  to.rows = from.rows;
  to.cols = from.cols;
  to.scale_rows = from.rows;
  if (format == WeightFormat::kNvfp4) {
    if (from.cols % kNvfp4Block != 0) return std::nullopt;
    to.scale_dtype = DType::kF8E4M3;
    to.group_size = kNvfp4Block;
  } else {
    CHECK(format == WeightFormat::kInt8Group, "requantised to {}", to_string(format));
    to.scale_dtype = DType::kBF16;
    to.group_size = kInt8Columns;
  }
  return to;
}

float Requantizer::amax(const WeightMatrix& from) {
  // Of magnitudes, the bits are in the order of the values; NaNs come last.
  std::atomic<uint32_t> largest{0};
  pool_.parallel_for(from.rows, rows_per_piece(from), [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(from.cols));
    uint32_t mine = 0;
    for (int64_t r = begin; r < end; ++r) {
      dequantize_row(from, r, row);
      for (const float value : row) {
        mine = std::max(mine, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
      }
    }
    uint32_t seen = largest.load();
    while (mine > seen && !largest.compare_exchange_weak(seen, mine)) {
    }
  });
  return std::bit_cast<float>(largest.load());
}

std::optional<float> Requantizer::encode(const WeightMatrix& from,
                                         const WeightMatrix& to,
                                         std::byte* codes,
                                         std::byte* scales) {
  if (to.format == from.format) {
    const int64_t bytes = row_bytes(from);
    pool_.parallel_for(from.rows, rows_per_piece(from), [&](int64_t begin, int64_t end) {
      std::memcpy(codes + begin * bytes, from.data + begin * bytes,
                  static_cast<size_t>((end - begin) * bytes));
    });
    return 1.0F;
  }
  const float largest = amax(from);
  if (!std::isfinite(largest)) return std::nullopt;
  const bool nvfp4 = to.format == WeightFormat::kNvfp4;
  const float global_scale = nvfp4 ? nvfp4_global_scale(largest) : 1.0F;
  const int64_t code_bytes = row_bytes(to);
  const int64_t scale_bytes = scale_cols(to) * bits_of(to.scale_dtype) / 8;
  pool_.parallel_for(from.rows, rows_per_piece(from), [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(from.cols));
    for (int64_t r = begin; r < end; ++r) {
      dequantize_row(from, r, row);
      std::byte* to_codes = codes + r * code_bytes;
      std::byte* to_scales = scales + r * scale_bytes;
      if (nvfp4) {
        kernels_.encode_nvfp4(row.data(), from.cols, global_scale,
                              reinterpret_cast<uint8_t*>(to_codes),
                              reinterpret_cast<uint8_t*>(to_scales));
      } else {
        kernels_.encode_int8(row.data(), from.cols, to.group_size,
                             reinterpret_cast<int8_t*>(to_codes),
                             reinterpret_cast<uint16_t*>(to_scales));
      }
    }
  });
  return global_scale;
}

}  // namespace facet::cpu
