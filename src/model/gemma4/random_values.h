#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "tensor/dtype.h"

namespace facet::gemma4 {

/// How the values of a random tensor are spread.
struct Law {
  enum class Shape : uint8_t {
    kNormal,   ///< `spread` is the standard deviation
    kUniform,  ///< from mean - spread to mean + spread
  };
  Shape shape = Shape::kNormal;
  double mean = 0;
  double spread = 0;
};

/// 64 bits that depend on `seed` and `name` alone. The values of a tensor follow from its key, so
/// they do not depend on what else is made, in which order or by how many threads.
uint64_t random_key(uint64_t seed, std::string_view name);
/// A number of [0, 1) that depends on the key alone.
double random_unit(uint64_t key);

/// A law in a stored form: 65,536 equally likely draws, already encoded, so that a random tensor
/// costs one look-up a draw whatever its format. A draw is one element of BF16 or F8_E4M3, one byte
/// of two E2M1 codes (kU8), or one byte of two 4-bit integers plus 8 (kI32, four bytes a word);
/// codes are in units of their scale.
class RandomTable {
 public:
  /// CHECKs that `dtype` is one of the four. Values beyond what the dtype holds saturate.
  RandomTable(DType dtype, const Law& law);

  /// Root of the mean square of the encoded values.
  double rms() const { return rms_; }
  /// Bytes of a draw: 1 or 2.
  int64_t draw_bytes() const { return narrow_.empty() ? 2 : 1; }
  /// The draws of `key` from number `first`, a multiple of 4, into `out`: a whole number of draws,
  /// at an address fit for them.
  void fill(uint64_t key, int64_t first, std::span<std::byte> out) const;

 private:
  std::vector<uint8_t> narrow_;
  std::vector<uint16_t> wide_;  // one of the two is empty
  double rms_ = 0;
};

/// Tables by dtype and law, made once each. One thread.
class RandomTables {
 public:
  const RandomTable& get(DType dtype, const Law& law);

 private:
  std::map<std::tuple<DType, Law::Shape, double, double>, RandomTable> tables_;
};

}  // namespace facet::gemma4
