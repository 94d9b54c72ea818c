#pragma once

#include <cstdint>
#include <span>

namespace facet {

/// How far one backend's rows are from the reference's. Each figure is that of its worst row: rows
/// differ in size by orders of magnitude (the first token's stream is the largest by far), so a
/// norm over all of them would hide a fault in one. What is not a finite number counts as infinite.
struct Difference {
  double relative = 0;    ///< |found - wanted| / |wanted|, norms over one row
  double of_change = 0;   ///< the same over what the part added to the residual stream; see Rows
  double largest = 0;     ///< largest absolute difference of a value
  int32_t position = -1;  ///< of the row with the largest `relative`

  /// Keeps the worse of each figure.
  void merge(const Difference& other);
};

/// The rows to compare, N wide.
struct Rows {
  std::span<const float> found;   // [T, N]
  std::span<const float> wanted;  // [T, N]
  /// [T, N], or empty: the residual stream before the part, so that its change is wanted -
  /// before_factor * before. What float32 rounding of the stream itself can make of the difference,
  /// 2^-22 |wanted| (two roundings on either side), is taken off before it is held against the
  /// change.
  std::span<const float> before;
  double before_factor = 1;
  std::span<const int32_t> positions;  // [T]
};

Difference compare(const Rows& rows);

/// How far a backend's routing is from the reference's for the same rows.
struct RoutingDifference {
  int64_t rows = 0;
  int64_t equal = 0;  ///< rows with the reference's expert set
  int64_t ties = 0;   ///< rows that differ only in experts of as good as equal probability
  /// Largest (p - p') / p over the rows' sets that differ: p the least probable expert of the
  /// reference's set, p' the most improbable that stands in its place, both the reference's
  /// probabilities. Infinite for an expert that does not exist or stands twice.
  double gap = 0;
  double weight = 0;      ///< largest relative difference of an expert's weight, rows of equal sets
  int32_t position = -1;  ///< of the row with the largest gap

  void merge(const RoutingDifference& other);
};

/// Routings of the same T rows.
struct Routings {
  std::span<const int32_t> found_experts;   // [T, top_k]
  std::span<const float> found_weights;     // [T, top_k]
  std::span<const int32_t> wanted_experts;  // [T, top_k]
  std::span<const float> wanted_weights;    // [T, top_k]
  std::span<const float> probabilities;     // [T, E], the reference's
  std::span<const int32_t> positions;       // [T]
};

/// A set that differs is a tie if its gap is at most `tie`.
RoutingDifference compare(const Routings& routings, double tie);

}  // namespace facet
