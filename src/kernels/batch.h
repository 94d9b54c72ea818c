#pragma once

#include <cstdint>
#include <span>

namespace facet {

/// The rows that one sequence has in a step: a decode has one, a prefill chunk several, at
/// consecutive positions.
struct SequenceRows {
  int32_t first_row = 0;
  int32_t rows = 0;
  int32_t first_position = 0;  ///< of first_row; also the number of positions already in the cache
};

/// The tokens of one step: T rows, sequence after sequence. Views; the step's owner keeps the
/// arrays.
struct Batch {
  std::span<const int32_t> positions;        ///< [T]
  std::span<const int32_t> sequence_of_row;  ///< [T], index into `sequences`
  std::span<const SequenceRows> sequences;   ///< [S]

  int64_t rows() const { return static_cast<int64_t>(positions.size()); }
};

}  // namespace facet
