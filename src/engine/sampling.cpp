#include "engine/sampling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/core.h>
#include <limits>

#include "base/error.h"

namespace facet {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-5F;  // server-api 5.7, step 4

void require(bool ok, const char* field, double found, const char* wanted) {
  if (!ok)
    throw Error(ErrorCode::kUsage, fmt::format("{}: found {}, wanted {}", field, found, wanted));
}

/// Larger logits first, lower ids first among equals: the order of every border (5.7).
bool before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

}  // namespace

float keyed_uniform(uint64_t seed, int32_t choice, int64_t position) {
  const auto place = static_cast<uint64_t>(position);
  std::array<uint32_t, 4> counter = {static_cast<uint32_t>(place),
                                     static_cast<uint32_t>(place >> 32),
                                     static_cast<uint32_t>(choice), 0};
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return static_cast<float>(counter[0] >> 8) * 0x1p-24F;
}

void SamplingParams::validate() const {
  constexpr float kMost = std::numeric_limits<float>::max();
  require(temperature >= 0 && temperature <= 100, "temperature", temperature, "0 to 100");
  require(top_k >= 0, "top_k", top_k, "0 (all) or more");
  require(top_p > 0 && top_p <= 1, "top_p", top_p, "above 0, at most 1");
  require(min_p >= 0 && min_p <= 1, "min_p", min_p, "0 to 1");
  require(repetition_penalty > 0 && repetition_penalty <= kMost, "repetition_penalty",
          repetition_penalty, "a finite number above 0");
  require(presence_penalty >= -2 && presence_penalty <= 2, "presence_penalty", presence_penalty,
          "-2 to 2");
  require(frequency_penalty >= -2 && frequency_penalty <= 2, "frequency_penalty", frequency_penalty,
          "-2 to 2");
  for (const auto& [id, bias] : logit_bias) {
    require(bias >= -100 && bias <= 100, "logit_bias", bias, "-100 to 100");
  }
}

Sampler::Sampler(SamplingParams params, std::vector<int32_t> never)
    : params_(std::move(params)), never_(std::move(never)) {}

void Sampler::see_prompt(std::span<const int32_t> ids) {
  for (const int32_t id : ids) seen_[id] = true;
}

void Sampler::see_output(int32_t id) {
  seen_[id] = true;
  ++output_counts_[id];
}

void Sampler::adjust(std::span<float> logits, std::span<const int32_t> banned) const {
  const auto inside = [&](int32_t id) { return id >= 0 && id < std::ssize(logits); };
  for (const auto& [id, bias] : params_.logit_bias) {
    if (inside(id)) logits[static_cast<size_t>(id)] += bias;
  }
  if (params_.repetition_penalty != 1.0F) {
    for (const auto& [id, unused] : seen_) {
      float& logit = logits[static_cast<size_t>(id)];
      logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    }
  }
  if (params_.presence_penalty != 0.0F || params_.frequency_penalty != 0.0F) {
    for (const auto& [id, count] : output_counts_) {
      logits[static_cast<size_t>(id)] -=
          params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
    }
  }
  for (const int32_t id : never_) {
    if (inside(id)) logits[static_cast<size_t>(id)] = kNever;
  }
  for (const int32_t id : banned) {
    if (inside(id)) logits[static_cast<size_t>(id)] = kNever;
  }
}

int32_t Sampler::sample(std::span<float> logits,
                        int64_t position,
                        std::span<const int32_t> banned) {
  adjust(logits, banned);
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (largest == logits.end() || *largest == kNever) return -1;
  const bool broken = std::any_of(logits.begin(), logits.end(), [](float logit) {
    return std::isnan(logit) || logit == -kNever;
  });
  if (broken) throw Error(ErrorCode::kInternal, "the model's logits are not finite numbers");
  if (params_.temperature < kGreedyBelow || params_.top_k == 1) {
    return static_cast<int32_t>(largest - logits.begin());
  }
  return draw(logits, position);
}

int32_t Sampler::draw(std::span<const float> logits, int64_t position) {
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] != kNever)
      candidates_.emplace_back(logits[id] / params_.temperature, static_cast<int32_t>(id));
  }
  const auto kept = params_.top_k > 0
                        ? std::min<std::ptrdiff_t>(params_.top_k, std::ssize(candidates_))
                        : std::ssize(candidates_);
  std::partial_sort(candidates_.begin(), candidates_.begin() + kept, candidates_.end(), before);
  candidates_.resize(static_cast<size_t>(kept));

  // From here `first` is a probability up to the common factor 1 / sum.
  const float largest = candidates_.front().first;
  double sum = 0;
  for (auto& [weight, id] : candidates_) {
    weight = std::exp(weight - largest);
    sum += weight;
  }
  // The smallest set whose probability reaches top_p, then those of at least min_p times the
  // largest.
  double reached = 0;
  size_t count = 0;
  while (count < candidates_.size() && (count == 0 || reached < params_.top_p * sum) &&
         candidates_[count].first >= params_.min_p) {
    reached += candidates_[count++].first;
  }
  double left = keyed_uniform(params_.seed, params_.choice, position) * reached;
  for (size_t i = 0; i < count; ++i) {
    left -= candidates_[i].first;
    if (left < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

}  // namespace facet
