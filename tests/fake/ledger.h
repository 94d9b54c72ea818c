#pragma once

#include <cstdint>
#include <gtest/gtest.h>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"

namespace facet::test {

/// Keeps what came for a request, and fails the test where a promise of TokenSink is broken: one
/// start, then events in choice order, one finish per choice and nothing after it.
class Ledger final : public TokenSink {
 public:
  struct Choice {
    std::vector<int32_t> ids;
    std::vector<TokenLogprob> logprobs;
    std::optional<FinishReason> finish;
    std::string error;
  };

  explicit Ledger(int32_t choices) : choices(static_cast<size_t>(choices)) {}

  void on_start(int32_t cached, std::vector<std::optional<TokenLogprob>> of_prompt) override {
    EXPECT_EQ(starts++, 0);
    cached_tokens = cached;
    prompt_logprobs = std::move(of_prompt);
  }

  void on_tokens(std::span<const TokenEvent> events) override {
    EXPECT_EQ(starts, 1);
    EXPECT_FALSE(events.empty());
    int32_t last = -1;
    for (const TokenEvent& event : events) {
      ASSERT_GT(event.choice, last);
      last = event.choice;
      Choice& choice = choices.at(static_cast<size_t>(event.choice));
      ASSERT_FALSE(choice.finish) << "choice " << event.choice << " has ended";
      EXPECT_TRUE(event.id >= 0 || event.finish);
      if (event.id >= 0) choice.ids.push_back(event.id);
      if (event.logprob) choice.logprobs.push_back(*event.logprob);
      choice.finish = event.finish;
      choice.error = event.error;
      if (event.finish) ++finished;
    }
  }

  bool done() const { return finished == std::ssize(choices); }

  std::vector<Choice> choices;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  int32_t starts = 0;
  int32_t cached_tokens = 0;
  int64_t finished = 0;  // choices
};

}  // namespace facet::test
