#pragma once

#include <cstdint>
#include <vector>

namespace facet {

/// The angles of one kind of layer: component i < frequencies.size() rotates with component i + D/2
/// by position * frequencies[i]; the rest pass unchanged. cos and sin are taken in float32 of the
/// float32 product, as HF does.
struct RopeTable {
  int32_t head_dim = 0;            // D
  std::vector<float> frequencies;  // radians per position; at most D/2
};

/// f_i = theta^(-2i / head_dim) for i < angles (gemma4-architecture 2.6): all D/2 for the sliding
/// layers, int(partial_rotary_factor * D / 2) for "proportional" ones. The denominator is the whole
/// head either way.
RopeTable make_rope_table(int32_t head_dim, double theta, int32_t angles);

}  // namespace facet
