#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>

namespace facet {

TokenLogprob token_logprob(std::span<const float> logits, int32_t id, int32_t top) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  const double log_sum = std::log(sum);
  const auto logprob_of = [&](int32_t token) {
    const float below = logits[static_cast<size_t>(token)] - largest;
    return static_cast<float>(static_cast<double>(below) - log_sum);
  };
  TokenLogprob result;
  result.logprob = logprob_of(id);
  // The best so far, in order: few, so a new one moves to its place by swaps.
  const auto most = std::min(static_cast<size_t>(top), logits.size());
  std::vector<int32_t> best;
  for (int32_t token = 0; token < std::ssize(logits); ++token) {
    const auto logit = [&](int32_t other) { return logits[static_cast<size_t>(other)]; };
    if (best.size() == most && (most == 0 || logit(token) <= logit(best.back()))) continue;
    if (best.size() == most) best.pop_back();
    const auto place = std::find_if(best.begin(), best.end(),
                                    [&](int32_t other) { return logit(token) > logit(other); });
    best.insert(place, token);
  }
  result.top.reserve(best.size());
  for (const int32_t token : best) result.top.push_back({token, logprob_of(token)});
  return result;
}

}  // namespace facet
