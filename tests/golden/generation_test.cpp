// Several prompts of one conversation, each computed only from where it parts from the last: what
// comes out equals a fresh start bit for bit.

#include "engine/generation.h"

#include <gtest/gtest.h>

#include "tests/golden/golden.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::Golden;
using test::LoadedModel;
using Rows = std::vector<std::vector<float>>;

constexpr int32_t kMaxPositions = 1000;
constexpr int32_t kAnswer = 40;  // more than the window of 16 and a page
constexpr const char* kGoldens[] = {"moe-nvfp4-modelopt", "dense-ple-kvshared-bf16"};

/// The model, and every row of logits that it gave.
class RecordingModel final : public Model {
 public:
  explicit RecordingModel(Model& model) : model_(model) {}

  int32_t vocab_size() const override { return model_.vocab_size(); }
  int32_t max_positions() const override { return model_.max_positions(); }
  int32_t max_rows() const override { return model_.max_rows(); }
  int32_t max_logit_rows() const override { return model_.max_logit_rows(); }
  std::vector<KvGroupSpec> kv_groups(int32_t page_size, DType dtype) const override {
    return model_.kv_groups(page_size, dtype);
  }
  std::optional<TensorView> forward(const Step& step) override {
    computed_ += static_cast<int32_t>(step.ids.size());
    const auto logits = model_.forward(step);
    if (logits && !step.logit_rows.empty()) {
      for (auto& row : test::rows_of(*logits)) rows_.push_back(std::move(row));
    }
    return logits;
  }

  Rows rows_;
  int32_t computed_ = 0;  // tokens

 private:
  Model& model_;
};

struct Outcome {
  std::vector<int32_t> ids;
  Rows logits;
  int32_t computed = 0;
  GenerationResult result;
};

/// One conversation on a model of its own.
class Conversation {
 public:
  Conversation(const Golden& golden, Backend& backend, int32_t chunk)
      : loaded_(golden.checkpoint(), backend, DType::kF32, 8),
        recording_(loaded_.model),
        stepper_(recording_, loaded_.cache),
        generation_(stepper_, chunk, kMaxPositions) {}

  Outcome run(const std::vector<int32_t>& prompt,
              int32_t lasting,
              int32_t max_tokens,
              const std::function<bool()>& keep_going = {}) {
    recording_.rows_.clear();
    recording_.computed_ = 0;
    GenerationParams params;
    params.sampling.temperature = 0.7F;
    params.sampling.seed = 11;
    params.max_tokens = max_tokens;
    params.lasting_ids = lasting;
    params.keep_going = keep_going;
    Outcome outcome;
    outcome.result = generation_.run(prompt, params, [&](int32_t id) {
      outcome.ids.push_back(id);
      return true;
    });
    outcome.logits = recording_.rows_;
    outcome.computed = recording_.computed_;
    loaded_.cache.check_integrity();
    return outcome;
  }

 private:
  LoadedModel loaded_;
  RecordingModel recording_;
  Stepper stepper_;
  Generation generation_;
};

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class GenerationOn : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (const auto reason = test::absent(GetParam())) GTEST_SKIP() << *reason;
  }
};

/// As in a chat with thinking off: the next prompt repeats the last one but for its end, and the
/// answer is longer than the window.
TEST_P(GenerationOn, NextPromptEqualsAFreshStart) {
  const auto backend = test::make_backend(GetParam());
  for (const char* name : kGoldens) {
    SCOPED_TRACE(name);
    const Golden golden(test::data_path(std::string("goldens/") + name));
    Conversation chat(golden, *backend, 16);
    std::vector<int32_t> prompt = golden.ids("prompt_ids");
    int32_t lasting = 0;  // of the turn before
    for (int turn = 0; turn < 3; ++turn) {
      const int32_t repeated = lasting;
      lasting = static_cast<int32_t>(prompt.size()) - 3;
      const Outcome found = chat.run(prompt, lasting, kAnswer);
      const Outcome fresh = Conversation(golden, *backend, 7).run(prompt, 0, kAnswer);
      EXPECT_EQ(found.ids, fresh.ids) << "turn " << turn;
      EXPECT_EQ(found.logits, fresh.logits) << "turn " << turn;
      EXPECT_GE(found.result.times.cached_tokens, repeated);
      EXPECT_LT(found.result.times.cached_tokens, repeated + 8) << "a page at most by chance";
      EXPECT_EQ(found.computed, fresh.computed - found.result.times.cached_tokens);
      const std::vector<int32_t> history(prompt.begin(), prompt.begin() + lasting);
      prompt = joined(joined(history, found.ids), golden.ids("decode_ids"));
    }
  }
}

/// Prompts that part anywhere: where the window is gone they are computed from the start.
TEST_P(GenerationOn, AnyPromptAfterAnyOtherEqualsAFreshStart) {
  const auto backend = test::make_backend(GetParam());
  const Golden golden(test::data_path("goldens/moe-nvfp4-modelopt"));
  Conversation chat(golden, *backend, 16);
  const std::vector<int32_t> whole =
      joined(golden.ids("prompt_ids"), joined(golden.ids("forced_ids"), golden.ids("decode_ids")));
  int32_t reused = 0;
  for (const size_t common : {60U, 60U, 59U, 40U, 41U, 3U, 60U, 1U}) {
    const std::vector<int32_t> start(whole.begin(),
                                     whole.begin() + static_cast<std::ptrdiff_t>(common));
    const std::vector<int32_t> prompt = joined(start, {static_cast<int32_t>(100 + common), 7});
    const Outcome found = chat.run(prompt, 40, 5);
    const Outcome fresh = Conversation(golden, *backend, 16).run(prompt, 0, 5);
    EXPECT_EQ(found.ids, fresh.ids) << common;
    EXPECT_EQ(found.logits, fresh.logits) << common;
    reused += found.result.times.cached_tokens;
  }
  EXPECT_GT(reused, 0);
}

/// Stopped at any step and any layer: the next prompt is as good as ever.
TEST_P(GenerationOn, StoppedPrefillsLeaveNothingBehind) {
  const auto backend = test::make_backend(GetParam());
  const Golden golden(test::data_path("goldens/moe-nvfp4-modelopt"));
  const std::vector<int32_t> prompt = golden.ids("prompt_ids");
  const Outcome fresh = Conversation(golden, *backend, 16).run(prompt, 0, 3);
  Conversation chat(golden, *backend, 16);
  int32_t asked = 0;
  for (int32_t limit = 0;; limit += 3) {
    asked = 0;
    const Outcome stopped = chat.run(prompt, 0, 1, [&] { return asked++ < limit; });
    if (stopped.result.cause != GenerationEnd::kStopped) break;
    EXPECT_TRUE(stopped.ids.empty());
    const Outcome again = chat.run(prompt, 0, 3);
    EXPECT_EQ(again.ids, fresh.ids) << limit;
    EXPECT_EQ(again.logits, fresh.logits) << limit;
    chat.run({5, 6, 7}, 0, 1);  // so that the next round computes the prompt again
  }
  const auto chunks = (static_cast<int32_t>(prompt.size()) + 15) / 16;
  EXPECT_GT(asked, 3 * chunks) << "asked before layers, not before steps alone";
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         GenerationOn,
                         testing::ValuesIn(test::backend_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace facet
