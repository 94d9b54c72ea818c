#include "engine/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fmt/core.h>
#include <limits>

#include "base/error.h"

namespace facet {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-5F;  // server-api 5.7, step 4
constexpr float kNeverBias = -100.0F;  // 5.1: a bias of -100 means never

void require(bool ok, const char* field, double found, const char* wanted) {
  if (!ok)
    throw Error(ErrorCode::kUsage, fmt::format("{}: found {}, wanted {}", field, found, wanted));
}

/// Larger logits first, lower ids first among equals: the order of every border (5.7).
constexpr auto kBefore = [](const std::pair<float, int32_t>& a,
                            const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
};

/// The low half first.
struct Halves {
  uint32_t words[2];
};
Halves halves_of(uint64_t value) {
  return {{static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)}};
}

}  // namespace

float keyed_uniform(uint64_t seed, int32_t choice, int64_t position) {
  const Halves key = halves_of(seed);
  const Halves place = halves_of(static_cast<uint64_t>(position));
  return keyed_uniform_of(key.words, place.words, choice);
}

void SamplingParams::validate() const {
  require(temperature >= 0 && temperature <= 10, "temperature", temperature, "0 to 10");
  require(top_k >= -1, "top_k", top_k, "1 or more, or 0 or -1 for all");
  require(top_p > 0 && top_p <= 1, "top_p", top_p, "above 0, at most 1");
  require(min_p >= 0 && min_p <= 1, "min_p", min_p, "0 to 1");
  require(repetition_penalty > 0 && repetition_penalty <= 2, "repetition_penalty",
          repetition_penalty, "above 0, at most 2");
  require(presence_penalty >= -2 && presence_penalty <= 2, "presence_penalty", presence_penalty,
          "-2 to 2");
  require(frequency_penalty >= -2 && frequency_penalty <= 2, "frequency_penalty", frequency_penalty,
          "-2 to 2");
  for (const auto& [id, bias] : logit_bias) {
    require(bias >= -100 && bias <= 100, "logit_bias", bias, "-100 to 100");
  }
}

Sampler::Sampler(SamplingParams params, std::vector<int32_t> never, Scratch& scratch)
    : params_(std::move(params)), never_(std::move(never)), candidates_(scratch) {}

bool Sampler::counts_output() const {
  return params_.presence_penalty != 0.0F || params_.frequency_penalty != 0.0F;
}

void Sampler::see_prompt(std::span<const int32_t> ids) {
  if (params_.repetition_penalty == 1.0F) return;
  seen_.insert(ids.begin(), ids.end());
}

void Sampler::see_output(int32_t id) {
  if (params_.repetition_penalty != 1.0F) seen_.insert(id);
  if (counts_output()) ++output_counts_[id];
}

bool all_finite(std::span<const float> logits) {
  constexpr uint32_t kExponent = 0x7F800000;  // all ones in NaN and infinities
  uint32_t broken = 0;
  for (const float logit : logits)
    broken |= static_cast<uint32_t>((std::bit_cast<uint32_t>(logit) & kExponent) == kExponent);
  return broken == 0;
}

void Sampler::repeat_penalty(std::span<float> logits) const {
  // A tiny penalty must not make an infinity, whose softmax is no number.
  constexpr float kLargest = std::numeric_limits<float>::max();
  const float penalty = params_.repetition_penalty;
  for (const int32_t id : seen_) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? std::min(logit / penalty, kLargest) : logit * penalty;
  }
}

void Sampler::adjust(std::span<float> logits, const TokenMask& mask) const {
  const auto inside = [&](int32_t id) { return id >= 0 && id < std::ssize(logits); };
  for (const auto& [id, bias] : params_.logit_bias) {
    if (!inside(id)) continue;
    float& logit = logits[static_cast<size_t>(id)];
    logit = bias <= kNeverBias ? kNever : logit + bias;
  }
  if (params_.repetition_penalty != 1.0F) repeat_penalty(logits);
  if (counts_output()) {
    for (const auto& [id, count] : output_counts_) {
      logits[static_cast<size_t>(id)] -=
          params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
    }
  }
  for (const int32_t id : never_) {
    if (inside(id)) logits[static_cast<size_t>(id)] = kNever;
  }
  for (const int32_t id : mask.banned) {
    if (inside(id)) logits[static_cast<size_t>(id)] = kNever;
  }
  if (mask.allowed.empty()) return;
  for (size_t id = 0; id < logits.size(); ++id) {
    const bool allowed = id / 64 < mask.allowed.size() && (mask.allowed[id / 64] >> (id % 64) & 1);
    if (!allowed) logits[id] = kNever;
  }
}

int32_t Sampler::sample(std::span<float> logits, int64_t position, const TokenMask& mask) {
  adjust(logits, mask);
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (largest == logits.end() || *largest == kNever) return -1;
  if (is_greedy()) return static_cast<int32_t>(largest - logits.begin());
  take_candidates(logits);
  return draw(*largest, position);
}

bool Sampler::is_greedy() const { return params_.temperature < kGreedyBelow || params_.top_k == 1; }

bool Sampler::needs_all(const TokenMask& mask) const {
  const bool changed =
      !params_.logit_bias.empty() || params_.repetition_penalty != 1.0F || counts_output();
  return changed || !mask.allowed.empty() || (!is_greedy() && params_.top_k <= 0);
}

DrawSpec Sampler::draw_spec(int64_t position, const TokenMask& mask) const {
  DrawSpec spec;
  const size_t excluded = never_.size() + mask.banned.size();
  if (needs_all(mask) || excluded > std::size(spec.excluded)) return spec;
  spec.top_k = is_greedy() ? 1 : params_.top_k;
  spec.temperature = params_.temperature;
  spec.top_p = params_.top_p;
  spec.min_p = params_.min_p;
  std::ranges::copy(halves_of(params_.seed).words, spec.seed);
  std::ranges::copy(halves_of(static_cast<uint64_t>(position)).words, spec.position);
  spec.choice = params_.choice;
  spec.excluded_count = static_cast<int32_t>(excluded);
  std::ranges::copy(mask.banned, std::ranges::copy(never_, spec.excluded).out);
  return spec;
}

std::optional<int32_t> Sampler::sample_top(std::span<const TopLogits::Entry> entries,
                                           int64_t position,
                                           const TokenMask& mask) {
  if (needs_all(mask)) return std::nullopt;
  const auto is_in = [](std::span<const int32_t> ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  candidates_.clear();
  for (const TopLogits::Entry& entry : entries) {
    if (is_in(never_, entry.id) || is_in(mask.banned, entry.id)) continue;
    candidates_.emplace_back(entry.logit, entry.id);
  }
  const size_t wanted = is_greedy() ? 1 : static_cast<size_t>(params_.top_k);
  if (candidates_.size() < wanted) return std::nullopt;
  if (is_greedy()) return std::min_element(candidates_.begin(), candidates_.end(), kBefore)->second;
  sort_from(0, wanted);
  candidates_.resize(wanted);
  return draw(candidates_.front().first, position);
}

void Sampler::take_candidates(std::span<const float> logits) {
  candidates_.clear();
  const auto most = params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : logits.size();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] == kNever) continue;
    const Candidate next = {logits[id], static_cast<int32_t>(id)};
    if (params_.top_k <= 0 || candidates_.size() < most) {
      candidates_.push_back(next);
      if (params_.top_k > 0 && candidates_.size() == most) {
        std::make_heap(candidates_.begin(), candidates_.end(), kBefore);  // the last one on top
      }
    } else if (next.first > candidates_.front().first) {
      // Ids ascend, so an equal one comes after all that are kept.
      std::pop_heap(candidates_.begin(), candidates_.end(), kBefore);
      candidates_.back() = next;
      std::push_heap(candidates_.begin(), candidates_.end(), kBefore);
    }
  }
  if (params_.top_k > 0) sort_from(0, candidates_.size());
}

void Sampler::sort_from(size_t begin, size_t end) {
  const auto first = candidates_.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(end);
  if (last != candidates_.end()) std::nth_element(first, last, candidates_.end(), kBefore);
  std::sort(first, last, kBefore);
}

size_t Sampler::keep(double sum) {
  if (params_.top_p >= 1 && params_.top_k <= 0) {
    // No border but min_p's, which asks for no order.
    std::erase_if(candidates_, [&](const Candidate& c) { return c.first < params_.min_p; });
    return candidates_.size();
  }
  // The smallest set whose probability reaches top_p, then those of at least min_p times the
  // largest. Most of a large vocabulary is never looked at, so it is sorted piece by piece.
  constexpr size_t kFirstPiece = 256;
  double reached = 0;
  size_t count = 0;
  size_t sorted = 0;
  while (count < candidates_.size() && (count == 0 || reached < params_.top_p * sum)) {
    if (count == sorted) {
      sorted = std::min(candidates_.size(), std::max(kFirstPiece, 4 * sorted));
      sort_from(count, sorted);
    }
    if (candidates_[count].first < params_.min_p) break;
    reached += candidates_[count++].first;
  }
  return count;
}

int32_t Sampler::draw(float largest, int64_t position) {
  // From here `first` is a probability up to the common factor 1 / sum. Differences come first: a
  // large logit over a small temperature would leave the range of a float.
  double sum = 0;
  for (auto& [weight, id] : candidates_) {
    weight = std::exp((weight - largest) / params_.temperature);
    sum += weight;
  }
  const size_t count = keep(sum);
  double reached = 0;
  for (size_t i = 0; i < count; ++i) reached += candidates_[i].first;
  double left = keyed_uniform(params_.seed, params_.choice, position) * reached;
  for (size_t i = 0; i < count; ++i) {
    left -= candidates_[i].first;
    if (left < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

}  // namespace facet
