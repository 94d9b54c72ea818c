#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace facet {

struct TopLogprob {
  int32_t id = 0;
  float logprob = 0;
  bool operator==(const TopLogprob&) const = default;
};

/// How likely a token was by the model's own distribution: the log-softmax of its logits, before
/// bias, penalties, masks and temperature (server-api 5.11). Natural logarithms.
struct TokenLogprob {
  float logprob = 0;
  std::vector<TopLogprob> top;  ///< the likeliest ids: falling values, rising ids among equals
  bool operator==(const TokenLogprob&) const = default;
};

/// Of token `id` in [0, V) under finite logits [V], with the `top` likeliest ids. Sums in float64.
TokenLogprob token_logprob(std::span<const float> logits, int32_t id, int32_t top);

}  // namespace facet
