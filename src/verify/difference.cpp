#include "verify/difference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace facet {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kStreamRounding = 0x1p-22;

/// part / whole, where nothing of nothing is none at all.
double share(double part, double whole) {
  if (!std::isfinite(part) || !std::isfinite(whole)) return kInfinite;
  if (part == 0) return 0;
  return whole == 0 ? kInfinite : part / whole;
}

Difference compare_row(const Rows& rows, size_t first, size_t width) {
  double error = 0;
  double size = 0;
  double change = 0;
  Difference result;
  for (size_t i = first; i < first + width; ++i) {
    const auto wanted = static_cast<double>(rows.wanted[i]);
    const double difference = static_cast<double>(rows.found[i]) - wanted;
    error += difference * difference;
    size += wanted * wanted;
    const double distance = std::isfinite(difference) ? std::abs(difference) : kInfinite;
    result.largest = std::max(result.largest, distance);
    if (!rows.before.empty()) {
      const double added = wanted - rows.before_factor * static_cast<double>(rows.before[i]);
      change += added * added;
    }
  }
  result.relative = share(std::sqrt(error), std::sqrt(size));
  if (!rows.before.empty()) {
    const double counted = std::sqrt(error) - kStreamRounding * std::sqrt(size);
    result.of_change = std::isfinite(result.relative)
                           ? share(std::max(0.0, counted), std::sqrt(change))
                           : kInfinite;
  }
  return result;
}

bool contains(std::span<const int32_t> experts, int32_t expert) {
  return std::find(experts.begin(), experts.end(), expert) != experts.end();
}

/// One row: its experts and their weights in both routings.
struct RoutingRow {
  std::span<const int32_t> found;
  std::span<const float> found_weights;
  std::span<const int32_t> wanted;
  std::span<const float> wanted_weights;
  std::span<const float> probabilities;
};

/// 0 if the sets are equal.
double gap_of(const RoutingRow& row) {
  double least = kInfinite;
  for (const int32_t expert : row.wanted) {
    least = std::min(least, static_cast<double>(row.probabilities[static_cast<size_t>(expert)]));
  }
  double gap = 0;
  for (size_t i = 0; i < row.found.size(); ++i) {
    const int32_t expert = row.found[i];
    const bool exists = expert >= 0 && static_cast<size_t>(expert) < row.probabilities.size();
    if (!exists || contains(row.found.first(i), expert)) return kInfinite;
    if (contains(row.wanted, expert)) continue;
    const auto probability = static_cast<double>(row.probabilities[static_cast<size_t>(expert)]);
    // Equal probabilities are a tie too, but no equal sets.
    gap = std::max({gap, share(least - probability, least), std::numeric_limits<double>::min()});
  }
  return gap;
}

double weight_difference(const RoutingRow& row) {
  double worst = 0;
  for (size_t i = 0; i < row.found.size(); ++i) {
    const auto at = std::find(row.wanted.begin(), row.wanted.end(), row.found[i]);
    const auto place = static_cast<size_t>(at - row.wanted.begin());
    const auto wanted = static_cast<double>(row.wanted_weights[place]);
    const double difference = static_cast<double>(row.found_weights[i]) - wanted;
    worst = std::max(worst, share(std::abs(difference), std::abs(wanted)));
  }
  return worst;
}

}  // namespace

void Difference::merge(const Difference& other) {
  if (other.relative > relative || position < 0) position = other.position;
  relative = std::max(relative, other.relative);
  of_change = std::max(of_change, other.of_change);
  largest = std::max(largest, other.largest);
}

Difference compare(const Rows& rows) {
  const size_t count = rows.positions.size();
  CHECK(count > 0 && rows.found.size() == rows.wanted.size() && rows.found.size() % count == 0 &&
            (rows.before.empty() || rows.before.size() == rows.found.size()),
        "{} and {} values in {} rows", rows.found.size(), rows.wanted.size(), count);
  const size_t width = rows.found.size() / count;
  Difference all;
  for (size_t t = 0; t < count; ++t) {
    Difference row = compare_row(rows, t * width, width);
    row.position = rows.positions[t];
    all.merge(row);
  }
  return all;
}

void RoutingDifference::merge(const RoutingDifference& other) {
  if (other.gap > gap || position < 0) position = other.position;
  rows += other.rows;
  equal += other.equal;
  ties += other.ties;
  gap = std::max(gap, other.gap);
  weight = std::max(weight, other.weight);
}

RoutingDifference compare(const Routings& routings, double tie) {
  const size_t count = routings.positions.size();
  const size_t top_k = routings.wanted_experts.size() / count;
  const size_t experts = routings.probabilities.size() / count;
  CHECK(routings.found_experts.size() == count * top_k, "{} experts of {} rows",
        routings.found_experts.size(), count);
  RoutingDifference all;
  for (size_t t = 0; t < count; ++t) {
    const RoutingRow row = {routings.found_experts.subspan(t * top_k, top_k),
                            routings.found_weights.subspan(t * top_k, top_k),
                            routings.wanted_experts.subspan(t * top_k, top_k),
                            routings.wanted_weights.subspan(t * top_k, top_k),
                            routings.probabilities.subspan(t * experts, experts)};
    RoutingDifference one;
    one.rows = 1;
    one.position = routings.positions[t];
    one.gap = gap_of(row);
    one.equal = one.gap == 0 ? 1 : 0;
    one.ties = one.gap > 0 && one.gap <= tie ? 1 : 0;
    if (one.equal == 1) one.weight = weight_difference(row);
    all.merge(one);
  }
  return all;
}

}  // namespace facet
