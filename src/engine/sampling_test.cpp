#include "engine/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"

namespace facet {
namespace {

constexpr int64_t kDraws = 20000;

/// How often each id is drawn over many positions.
std::map<int32_t, double> frequencies(const SamplingParams& params,
                                      const std::vector<float>& logits) {
  std::map<int32_t, double> counts;
  Sampler::Scratch scratch;
  Sampler sampler(params, {}, scratch);
  for (int64_t position = 0; position < kDraws; ++position) {
    std::vector<float> copy = logits;
    counts[sampler.sample(copy, position, {})] += 1.0 / kDraws;
  }
  return counts;
}

int32_t sample_once(const SamplingParams& params, std::vector<float> logits) {
  Sampler::Scratch scratch;
  return Sampler(params, {}, scratch).sample(logits, 0, {});
}

TEST(KeyedUniform, MatchesThePublishedPhiloxVector) {
  // Random123's known answer for philox4x32-10 with counter and key zero begins 6627e8d5.
  EXPECT_EQ(keyed_uniform(0, 0, 0), static_cast<float>(0x6627e8) * 0x1p-24F);
}

TEST(KeyedUniform, DependsOnEachPartOfItsKey) {
  std::set<float> seen;
  for (const uint64_t seed : {uint64_t{1}, uint64_t{2}, uint64_t{1} << 40}) {
    for (const int32_t choice : {0, 1}) {
      for (const int64_t position : {int64_t{0}, int64_t{1}, int64_t{1} << 35}) {
        seen.insert(keyed_uniform(seed, choice, position));
      }
    }
  }
  EXPECT_EQ(seen.size(), 18u);
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowestIdOfEquals) {
  EXPECT_EQ(sample_once({.temperature = 0.0F}, {1, 3, 3, 2}), 1);
  EXPECT_EQ(sample_once({.temperature = 5.0F, .top_k = 1}, {1, 3, 3, 2}), 1);
}

TEST(Sampler, DrawsFromTheSoftmaxAfterTemperature) {
  const std::vector<float> logits = {0.0F, std::log(2.0F), std::log(5.0F)};
  const auto plain = frequencies({}, logits);
  EXPECT_NEAR(plain.at(0), 1.0 / 8, 0.01);
  EXPECT_NEAR(plain.at(1), 2.0 / 8, 0.01);
  EXPECT_NEAR(plain.at(2), 5.0 / 8, 0.01);
  const auto warm = frequencies({.temperature = 2.0F}, logits);
  const double sum = 1 + std::sqrt(2.0) + std::sqrt(5.0);
  EXPECT_NEAR(warm.at(2), std::sqrt(5.0) / sum, 0.01);
}

TEST(Sampler, TopKThenTopPThenMinP) {
  const std::vector<float> logits = {std::log(4.0F), std::log(3.0F), std::log(2.0F),
                                     std::log(1.0F)};
  EXPECT_EQ(frequencies({.top_k = 2}, logits).size(), 2u);
  EXPECT_EQ(frequencies({.top_k = -1}, logits).size(), 4u);
  EXPECT_EQ(frequencies({.top_k = 99}, logits).size(), 4u);
  // Of the three that top_k leaves, 4/9 + 3/9 reach 0.7; of all four, 4/10 + 3/10 do.
  EXPECT_EQ(frequencies({.top_k = 3, .top_p = 0.7F}, logits).size(), 2u);
  EXPECT_EQ(frequencies({.top_p = 0.71F}, logits).size(), 3u);
  EXPECT_EQ(frequencies({.min_p = 0.4F}, logits).size(), 3u);
  EXPECT_EQ(frequencies({.top_p = 1e-6F}, logits).size(), 1u);
}

TEST(Sampler, TiesAtABorderKeepTheLowerIds) {
  const auto drawn = frequencies({.top_k = 2}, {1.0F, 1.0F, 1.0F});
  EXPECT_TRUE(drawn.contains(0) && drawn.contains(1));
  EXPECT_FALSE(drawn.contains(2));
}

TEST(Sampler, PenaltiesAndBias) {
  SamplingParams params = {.temperature = 0.0F, .repetition_penalty = 2.0F};
  Sampler::Scratch scratch;
  Sampler repeat(params, {}, scratch);
  repeat.see_prompt(std::vector<int32_t>{0, 1});
  std::vector<float> logits = {4.0F, -1.0F, 2.5F};
  EXPECT_EQ(repeat.sample(logits, 0, {}), 2);
  EXPECT_EQ(logits, (std::vector<float>{2.0F, -2.0F, 2.5F}));

  params = {.temperature = 0.0F, .presence_penalty = 1.0F, .frequency_penalty = 0.5F};
  Sampler counts(params, {}, scratch);
  counts.see_prompt(std::vector<int32_t>{1});  // prompts do not count here
  counts.see_output(0);
  counts.see_output(0);
  logits = {4.0F, 2.5F};
  EXPECT_EQ(counts.sample(logits, 0, {}), 1);
  EXPECT_EQ(logits, (std::vector<float>{2.0F, 2.5F}));

  params = {.temperature = 0.0F, .logit_bias = {{2, 100.0F}}};
  EXPECT_EQ(sample_once(params, {3.0F, 2.0F, 1.0F}), 2);
  params.logit_bias = {{0, -100.0F}};
  EXPECT_EQ(sample_once(params, {1000.0F, 2.0F, 1.0F}), 1) << "-100 is never, however large";
}

TEST(Sampler, SeveralShareOneScratch) {
  Sampler::Scratch shared;
  Sampler first({.top_k = 3, .seed = 1}, {}, shared);
  Sampler second({.top_p = 0.9F, .seed = 2}, {}, shared);
  Sampler::Scratch own;
  Sampler alone({.top_k = 3, .seed = 1}, {}, own);
  const std::vector<float> small = {1.0F, 2.0F, 0.5F, 1.5F, 0.0F};
  const std::vector<float> large(1000, 1.0F);
  for (int32_t position = 0; position < 100; ++position) {
    std::vector<float> logits = small;
    std::vector<float> other = large;
    std::vector<float> same = small;
    const int32_t id = first.sample(logits, position, {});
    second.sample(other, position, {});
    EXPECT_EQ(id, alone.sample(same, position, {}));
  }
}

TEST(Sampler, NeverAndBannedIdsAreLeftOut) {
  Sampler::Scratch scratch;
  Sampler sampler({.temperature = 0.0F}, {1}, scratch);
  std::vector<float> logits = {1.0F, 9.0F, 5.0F};
  const std::vector<int32_t> two = {2};
  EXPECT_EQ(sampler.sample(logits, 0, {.banned = two}), 0);
  logits = {1.0F, 9.0F, 5.0F};
  const std::vector<int32_t> both = {0, 2};
  EXPECT_EQ(sampler.sample(logits, 0, {.banned = both}), -1);
}

TEST(Sampler, OnlyAllowedIdsAreSampled) {
  Sampler::Scratch scratch;
  Sampler sampler({.temperature = 0.0F}, {4}, scratch);
  const std::vector<uint64_t> allowed = {0b10110, 1};  // 1, 2, 4; 64
  std::vector<float> logits(70, 0.0F);
  logits[0] = 9.0F;
  logits[2] = 5.0F;
  logits[4] = 7.0F;
  logits[64] = 6.0F;
  logits[69] = 8.0F;
  std::vector<float> copy = logits;
  EXPECT_EQ(sampler.sample(copy, 0, {.allowed = allowed}), 64);
  copy = logits;
  EXPECT_EQ(sampler.sample(copy, 0, {.allowed = std::span(allowed).first(1)}), 2);
  const std::vector<uint64_t> none = {0, 0};
  EXPECT_EQ(sampler.sample(logits, 0, {.allowed = none}), -1);
}

TEST(Sampler, TheSmallestRepetitionPenaltyLeavesADraw) {
  const float smallest = std::numeric_limits<float>::denorm_min();
  for (const float penalty : {1e-37F, smallest}) {
    for (const float temperature : {1.0F, 1e-4F}) {
      Sampler::Scratch scratch;
      Sampler sampler({.temperature = temperature, .repetition_penalty = penalty}, {}, scratch);
      sampler.see_prompt(std::vector<int32_t>{1, 2});
      for (int64_t position = 0; position < 20; ++position) {
        std::vector<float> logits = {30.0F, 20.0F, -20.0F, 0.0F};
        EXPECT_EQ(sampler.sample(logits, position, {}), 1) << penalty;
      }
    }
  }
}

TEST(AllFinite, SeesEveryKindOfBrokenLogit) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const float largest = std::numeric_limits<float>::max();
  EXPECT_TRUE(all_finite(std::vector<float>{1.0F, -largest, largest, 0.0F, 1e-45F}));
  for (const float broken : {nan, -nan, infinity, -infinity}) {
    for (size_t at = 0; at < 9; ++at) {
      std::vector<float> logits(9, 1.0F);
      logits[at] = broken;
      EXPECT_FALSE(all_finite(logits)) << broken << " at " << at;
    }
  }
}

TEST(SamplingParams, RefusesWhatIsOutOfRangeByName) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](const SamplingParams& params, const char* field) {
    try {
      params.validate();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
      return error.code() == ErrorCode::kUsage;
    }
    return false;
  };
  EXPECT_TRUE(refused({.temperature = nan}, "temperature"));
  EXPECT_TRUE(refused({.temperature = -0.1F}, "temperature"));
  EXPECT_TRUE(refused({.temperature = 10.5F}, "temperature"));
  EXPECT_TRUE(refused({.top_k = -2}, "top_k"));
  EXPECT_NO_THROW((SamplingParams{.temperature = 10.0F, .top_k = -1}.validate()));
  EXPECT_TRUE(refused({.top_p = 0.0F}, "top_p"));
  EXPECT_TRUE(refused({.top_p = nan}, "top_p"));
  EXPECT_TRUE(refused({.min_p = 1.5F}, "min_p"));
  EXPECT_TRUE(refused({.repetition_penalty = 0.0F}, "repetition_penalty"));
  EXPECT_TRUE(refused({.repetition_penalty = 2.1F}, "repetition_penalty"));
  EXPECT_TRUE(refused({.presence_penalty = nan}, "presence_penalty"));
  EXPECT_TRUE(refused({.frequency_penalty = 3.0F}, "frequency_penalty"));
  EXPECT_NO_THROW(SamplingParams{}.validate());
}

/// The entries of TopLogits: what is not below the `count`-th largest.
std::vector<TopLogits::Entry> top_of(const std::vector<float>& logits, size_t count) {
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::vector<TopLogits::Entry> entries;
  for (size_t id = logits.size(); id-- > 0;) {  // the order must not matter
    if (logits[id] >= sorted[count - 1]) entries.push_back({logits[id], static_cast<int32_t>(id)});
  }
  return entries;
}

TEST(Sampler, TheLargestLogitsGiveWhatAllOfThemGive) {
  constexpr size_t kVocab = 3000;
  const std::vector<int32_t> never = {5, 17};
  const std::vector<int32_t> banned = {40, 41};
  Sampler::Scratch scratch;
  std::set<int32_t> seen;
  for (int64_t position = 0; position < 300; ++position) {
    std::vector<float> logits(kVocab);
    for (size_t id = 0; id < kVocab; ++id) {
      // Few values, so that equals stand on every border.
      logits[id] = std::floor(20 * keyed_uniform(7, static_cast<int32_t>(id), position) *
                              keyed_uniform(8, static_cast<int32_t>(id), position) * 8) /
                   8;
    }
    logits[static_cast<size_t>(never[position % 2])] = 30;
    logits[static_cast<size_t>(banned[position % 2])] = 30;
    const auto entries = top_of(logits, 90);
    for (const SamplingParams& params :
         {SamplingParams{.temperature = 0.0F}, SamplingParams{.top_k = 1, .seed = 3},
          SamplingParams{.top_k = 64, .top_p = 0.95F, .seed = 3},
          SamplingParams{.temperature = 0.5F, .top_k = 20, .min_p = 0.1F, .seed = 4},
          SamplingParams{.temperature = 2.0F, .top_k = 80, .top_p = 0.3F, .seed = 5}}) {
      Sampler sampler(params, never, scratch);
      const auto quick = sampler.sample_top(entries, position, {.banned = banned, .allowed = {}});
      ASSERT_TRUE(quick);
      std::vector<float> copy = logits;
      ASSERT_EQ(*quick, sampler.sample(copy, position, {.banned = banned, .allowed = {}}));
      seen.insert(*quick);
    }
  }
  EXPECT_GT(seen.size(), 100u);
}

TEST(Sampler, AsksForAllLogitsWhereTheLargestDoNotDecide) {
  std::vector<float> logits(1000);
  for (size_t id = 0; id < logits.size(); ++id) logits[id] = static_cast<float>(id) / 100;
  const auto entries = top_of(logits, 64);
  Sampler::Scratch scratch;
  const auto asks = [&](const SamplingParams& params, const TokenMask& mask = {}) {
    return !Sampler(params, {}, scratch).sample_top(entries, 0, mask);
  };
  EXPECT_TRUE(asks({}));              // from the whole distribution
  EXPECT_TRUE(asks({.top_k = 65}));   // too few
  EXPECT_FALSE(asks({.top_k = 64}));  // just enough
  const std::vector<int32_t> banned = {999};
  EXPECT_TRUE(asks({.top_k = 64}, {.banned = banned, .allowed = {}}));
  EXPECT_TRUE(asks({.temperature = 0, .logit_bias = {{3, 50.0F}}}));
  EXPECT_TRUE(asks({.temperature = 0, .repetition_penalty = 1.1F}));
  EXPECT_TRUE(asks({.temperature = 0, .presence_penalty = 0.5F}));
  const std::vector<uint64_t> allowed = {1};
  EXPECT_TRUE(asks({.temperature = 0}, {.banned = {}, .allowed = allowed}));
  EXPECT_FALSE(asks({.temperature = 0}));
}

}  // namespace
}  // namespace facet
