// What the prefix cache saves in a conversation: the engine with its threads over Fable.

#include <gtest/gtest.h>

#include "tests/fake/waiting_sink.h"
#include "tests/golden/fable.h"

namespace facet {
namespace {

using test::send;
using test::Sent;

TEST(EngineLoad, TheSecondTurnOfAConversationComputesWhatIsNew) {
  constexpr int32_t kPrompt = 6000;
  constexpr int32_t kRepeated = kPrompt - 7;  // the second prompt parts a little before its end
  test::Fable fable({.max_rows = 512, .max_logit_rows = 16}, 0);
  EngineOptions options;
  options.kv_bytes = int64_t{64} << 20;
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<TokenLogprob>> logprobs;
  for (const PrefixCaching caching : {PrefixCaching::kOn, PrefixCaching::kOff}) {
    options.prefix_caching = caching;
    Engine engine(fable.model, *fable.backend, options);
    Request request;
    request.prompt = test::fable_ids(5, kPrompt);
    request.max_tokens = 300;  // more than the window
    request.logprobs = 1;
    const Sent first = send(engine, request);
    EXPECT_EQ(first.sink->wait().choices[0].finish, FinishReason::kLength);
    EXPECT_EQ(first.sink->wait().cached_tokens, 0);

    request.prompt.resize(kRepeated);
    const std::vector<int32_t> answer = first.sink->wait().choices[0].ids;
    request.prompt.insert(request.prompt.end(), answer.begin(), answer.end());
    request.max_tokens = 20;
    const Sent second = send(engine, request);
    EXPECT_EQ(second.sink->wait().choices[0].finish, FinishReason::kLength);
    // And one that goes on where the first stopped.
    request.prompt = test::fable_ids(5, kPrompt);
    request.prompt.insert(request.prompt.end(), answer.begin(), answer.end());
    request.prompt.push_back(400);
    const Sent third = send(engine, request);
    EXPECT_EQ(third.sink->wait().choices[0].finish, FinishReason::kLength);
    if (caching == PrefixCaching::kOn) {
      EXPECT_GT(second.sink->wait().cached_tokens, kRepeated - options.page_size);
      EXPECT_LE(second.sink->wait().cached_tokens, kRepeated);
      // The last token of an answer is never read.
      EXPECT_GT(third.sink->wait().cached_tokens, kPrompt + 300 - 1 - options.page_size);
    } else {
      EXPECT_EQ(second.sink->wait().cached_tokens, 0);
      EXPECT_EQ(third.sink->wait().cached_tokens, 0);
    }
    for (const Sent* sent : {&first, &second, &third}) {
      const test::Ledger::Choice& choice = sent->sink->wait().choices[0];
      ids.push_back(choice.ids);
      logprobs.push_back(choice.logprobs);
    }
  }
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ids[i], ids[i + 3]) << "answer " << i;
    EXPECT_TRUE(logprobs[i] == logprobs[i + 3]) << "answer " << i;
  }
}

}  // namespace
}  // namespace facet
