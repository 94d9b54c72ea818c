#include "tests/property/expected_answer.h"

#include <algorithm>
#include <gtest/gtest.h>

#include "tests/fake/hash_backend.h"

namespace facet::test {
namespace {

class SimulatedGuide final : public TokenGuide {
 public:
  SimulatedGuide(int32_t kind, int32_t choice) : kind_(kind), choice_(choice) {}

  Rule next() override {
    EXPECT_FALSE(asked_) << "asked twice for one token";
    asked_ = true;
    if (kind_ == 1 && taken_ < 3) return {Rule::Kind::kForced, (taken_ * 5 + choice_) % kVocab, {}};
    if (kind_ == 2) {
      allowed_ = taken_ % 2 == 0 ? 0x5555555555555555 : 0xF0F0F0F0F0F0F0F0;
      return {Rule::Kind::kOnly, -1, {&allowed_, 1}};
    }
    return {};
  }
  void accept(int32_t /*id*/) override {
    EXPECT_TRUE(asked_);
    asked_ = false;
    ++taken_;
  }

 private:
  const int32_t kind_;
  const int32_t choice_;
  int32_t taken_ = 0;
  bool asked_ = false;
  uint64_t allowed_ = 0;
};

}  // namespace

std::unique_ptr<TokenGuide> make_simulated_guide(int32_t kind, int32_t choice) {
  if (kind == 0) return nullptr;
  return std::make_unique<SimulatedGuide>(kind, choice);
}

ExpectedAnswer expected_answer(const Request& request,
                               int32_t guided,
                               int32_t choice,
                               int32_t window) {
  ExpectedAnswer expected;
  HashOracle oracle(kVocab, window);
  for (const int32_t id : request.prompt) oracle.read(id);
  SamplingParams params = request.sampling;
  params.choice = choice;
  Sampler::Scratch scratch;
  Sampler sampler(params, request.never_ids, scratch);
  sampler.see_prompt(request.prompt);
  const std::unique_ptr<TokenGuide> guide = make_simulated_guide(guided, choice);
  while (std::ssize(expected.ids) < request.max_tokens) {
    std::vector<float> logits = oracle.logits();
    const std::vector<float> raw = logits;
    const TokenGuide::Rule rule = guide ? guide->next() : TokenGuide::Rule{};
    TokenMask mask;
    if (std::ssize(expected.ids) < request.min_tokens) mask.banned = request.end_ids;
    mask.allowed = rule.allowed;
    const auto position = static_cast<int64_t>(request.prompt.size() + expected.ids.size());
    const int32_t id = rule.kind == TokenGuide::Rule::Kind::kForced
                           ? rule.forced
                           : sampler.sample(logits, position, mask);
    if (guide) guide->accept(id);
    if (id < 0) {
      expected.finish = FinishReason::kError;
      return expected;
    }
    if (request.logprobs) expected.logprobs.push_back(token_logprob(raw, id, *request.logprobs));
    expected.ids.push_back(id);
    sampler.see_output(id);
    oracle.read(id);
    if (std::count(request.end_ids.begin(), request.end_ids.end(), id) > 0) {
      expected.finish = FinishReason::kEndToken;
      return expected;
    }
  }
  return expected;
}

}  // namespace facet::test
