#include "kernels/rope.h"

#include <cmath>

#include "base/check.h"

namespace facet {

RopeTable make_rope_table(int32_t head_dim, double theta, int32_t angles) {
  CHECK(head_dim > 0 && angles >= 0 && angles <= head_dim / 2, "head {} angles {}", head_dim,
        angles);
  RopeTable table;
  table.head_dim = head_dim;
  table.frequencies.reserve(static_cast<size_t>(angles));
  for (int32_t i = 0; i < angles; ++i) {
    // HF evaluates 1 / theta^(2i/D) in float32.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    table.frequencies.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  return table;
}

}  // namespace facet
