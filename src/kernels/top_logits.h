#pragma once

#include <cstdint>
#include <span>

namespace facet {

/// What a backend found of one row of logits where they lie, so that most rows need not be copied
/// to the host.
struct TopLogits {
  struct Entry {
    float logit;
    int32_t id;
  };
  /// Every logit that is not below the smallest of them, in no order. Empty: too many were equal.
  std::span<const Entry> entries;
  bool finite = false;  ///< all logits of the row are finite numbers
};

}  // namespace facet
