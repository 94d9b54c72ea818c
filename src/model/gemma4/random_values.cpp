#include "model/gemma4/random_values.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/check.h"
#include "quant/float_formats.h"

namespace facet::gemma4 {
namespace {

constexpr int64_t kDraws = 1 << 16;
constexpr int64_t kDrawsPerWord = 4;  // 16 random bits each
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): every output bit depends on every input
/// bit.
constexpr uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// x with P(N(0, 1) < x) = (i + 0.5) / count, for each i < count.
std::vector<double> normal_quantiles(int64_t count) {
  const double density_scale = 1.0 / std::sqrt(2.0 * std::numbers::pi);
  std::vector<double> quantiles(static_cast<size_t>(count));
  double x = 0;
  for (int64_t i = count / 2; i < count; ++i) {
    const double tail = 1.0 - (static_cast<double>(i) + 0.5) / static_cast<double>(count);
    // Newton from the neighbour below: the tail is convex here, so no step goes too far.
    for (int32_t step = 0; step < 8; ++step) {
      const double error = 0.5 * std::erfc(x / std::numbers::sqrt2) - tail;
      x += error / (density_scale * std::exp(-0.5 * x * x));
    }
    quantiles[static_cast<size_t>(i)] = x;
    quantiles[static_cast<size_t>(count - 1 - i)] = -x;
  }
  return quantiles;
}

/// `count` equally likely values of the law, ascending.
std::vector<double> values_of(const Law& law, int64_t count) {
  std::vector<double> values;
  if (law.shape == Law::Shape::kNormal) {
    values = normal_quantiles(count);
  } else {
    values.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      values[static_cast<size_t>(i)] =
          (2.0 * static_cast<double>(i) + 1.0) / static_cast<double>(count) - 1.0;
    }
  }
  for (double& value : values) value = law.mean + law.spread * value;
  return values;
}

/// A 4-bit code and what it stands for.
struct Code {
  uint8_t bits = 0;
  double value = 0;
};

Code encode_four_bits(DType dtype, double value) {
  if (dtype == DType::kU8) {
    const uint8_t bits = float_to_e2m1(static_cast<float>(value));
    return {bits, kE2m1Values[bits]};
  }
  const double level = std::clamp(std::nearbyint(value), -8.0, 7.0);
  return {static_cast<uint8_t>(level + 8.0), level};
}

/// out[d] = table[the d-th 16 random bits].
template <typename T>
void look_up(const std::vector<T>& draws, uint64_t key, int64_t first, std::span<T> out) {
  const T* const table = draws.data();  // a copy that the stores below cannot change
  uint64_t counter = key + static_cast<uint64_t>(first / kDrawsPerWord) * kGolden;
  const size_t whole = out.size() / kDrawsPerWord * kDrawsPerWord;
  for (size_t i = 0; i < whole; i += kDrawsPerWord) {
    counter += kGolden;
    const uint64_t word = mix(counter);
    out[i] = table[word & 0xffff];
    out[i + 1] = table[word >> 16 & 0xffff];
    out[i + 2] = table[word >> 32 & 0xffff];
    out[i + 3] = table[word >> 48];
  }
  uint64_t word = mix(counter + kGolden);
  for (size_t i = whole; i < out.size(); ++i, word >>= 16) out[i] = table[word & 0xffff];
}

}  // namespace

uint64_t random_key(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char byte : name) {
    hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3u;
  }
  return mix(hash ^ mix(seed + kGolden));
}

double random_unit(uint64_t key) {
  return static_cast<double>(mix(key + kGolden) >> 11) * 0x1.0p-53;
}

RandomTable::RandomTable(DType dtype, const Law& law) {
  double squares = 0;
  if (dtype == DType::kU8 || dtype == DType::kI32) {
    constexpr int64_t kNibbles = 256;
    std::array<Code, kNibbles> codes;
    const std::vector<double> values = values_of(law, kNibbles);
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = encode_four_bits(dtype, values[i]);
      squares += codes[i].value * codes[i].value / kNibbles;
    }
    for (const Code& high : codes) {
      for (const Code& low : codes) {
        narrow_.push_back(static_cast<uint8_t>(high.bits << 4 | low.bits));
      }
    }
  } else {
    CHECK(dtype == DType::kBF16 || dtype == DType::kF8E4M3, "no table of {}", to_string(dtype));
    for (const double value : values_of(law, kDraws)) {
      float stored = 0;
      if (dtype == DType::kBF16) {
        wide_.push_back(float_to_bf16(static_cast<float>(value)));
        stored = bf16_to_float(wide_.back());
      } else {
        narrow_.push_back(float_to_e4m3(static_cast<float>(value)));
        stored = e4m3_table()[narrow_.back()];
      }
      squares += static_cast<double>(stored) * static_cast<double>(stored) / kDraws;
    }
  }
  rms_ = std::sqrt(squares);
}

void RandomTable::fill(uint64_t key, int64_t first, std::span<std::byte> out) const {
  CHECK(first % kDrawsPerWord == 0, "draw {}", first);
  CHECK(out.size() % static_cast<size_t>(draw_bytes()) == 0, "{} bytes", out.size());
  if (narrow_.empty()) {
    look_up(wide_, key, first, std::span(reinterpret_cast<uint16_t*>(out.data()), out.size() / 2));
  } else {
    look_up(narrow_, key, first, std::span(reinterpret_cast<uint8_t*>(out.data()), out.size()));
  }
}

const RandomTable& RandomTables::get(DType dtype, const Law& law) {
  const std::tuple key(dtype, law.shape, law.mean, law.spread);
  const auto found = tables_.find(key);
  if (found != tables_.end()) return found->second;
  return tables_.emplace(key, RandomTable(dtype, law)).first->second;
}

}  // namespace facet::gemma4
