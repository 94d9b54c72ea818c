// The same request gives the same tokens and log-probabilities, bit for bit, whatever runs beside
// it: Fable on the CPU backend and on CUDA under random schedules.

#include <algorithm>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <random>

#include "engine/engine_core.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/fake/inline_runner.h"
#include "tests/fake/ledger.h"
#include "tests/golden/fable.h"
#include "tests/golden/golden.h"

namespace facet {
namespace {

using test::Ledger;

constexpr int32_t kShards = 4;      // so that they can run side by side
constexpr int32_t kSchedules = 50;  // of a shard
constexpr int32_t kPage = 8;
constexpr int32_t kWindow = 256;  // Fable's

/// An engine driven turn by turn; its clock stands still, so that a seed says all.
class Driven {
 public:
  Driven(test::Fable& fable, const EngineOptions& options)
      : runner_(fable.model, clock_),
        core_({fable.model, fable.backend->allocator(), runner_, [this] { return clock_.now(); }},
              options) {}

  RequestHandle send(Request request, const std::shared_ptr<Ledger>& ledger) {
    request.sink = ledger;
    check_request(request, core_.limits().vocab_size);
    const auto handle = static_cast<RequestHandle>(++last_);
    core_.submit(handle, std::move(request));
    return handle;
  }
  void turn() {
    core_.turn();
    core_.tell();
  }
  EngineCore& core() { return core_; }

 private:
  test::FakeClock clock_;
  test::InlineRunner runner_;
  EngineCore core_;
  uint64_t last_ = 0;
};

/// Some requests that share beginnings, one of them longer than the window.
std::vector<Request> requests() {
  std::vector<Request> made;
  const std::vector<int32_t> common = test::fable_ids(1, 12);
  for (int32_t i = 0; i < 4; ++i) {
    Request request;
    request.prompt = common;
    const int32_t own = i == 0 ? kWindow : 3 * i;
    const std::vector<int32_t> rest = test::fable_ids(10 + static_cast<uint64_t>(i), own);
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    request.max_tokens = i == 0 ? 5 : 14 + 2 * i;
    request.choices = i == 2 ? 3 : 1;
    request.sampling.temperature = i == 3 ? 0.0F : 1.0F;
    request.sampling.top_p = 0.95F;
    request.sampling.seed = 77;
    request.sampling.repetition_penalty = i == 1 ? 1.2F : 1.0F;
    request.logprobs = 2;
    if (i == 1) request.prompt_logprobs = 1;
    made.push_back(std::move(request));
  }
  return made;
}

/// Pools from what the longest request needs to a few times that.
EngineOptions options_of(std::mt19937_64& random, bool with_long) {
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  EngineOptions options;
  options.page_size = kPage;
  options.prefill_chunk = with_long ? draw(20, 128) : draw(3, 40);
  options.max_running = draw(3, 7);
  options.snapshot_positions = kPage * draw(1, 16);
  options.prefix_caching = draw(0, 3) > 0 ? PrefixCaching::kOn : PrefixCaching::kOff;
  const int32_t longest = with_long ? kWindow + 12 + 5 : 12 + 9 + 20;
  const int32_t pages = longest / kPage + 1;
  options.pages = {pages + draw(0, 6), pages + draw(0, 6)};
  return options;
}

void expect_equal(const Ledger& found, const Ledger& alone) {
  for (size_t c = 0; c < alone.choices.size(); ++c) {
    EXPECT_EQ(found.choices[c].ids, alone.choices[c].ids) << "choice " << c;
    EXPECT_TRUE(found.choices[c].logprobs == alone.choices[c].logprobs) << "choice " << c;
    EXPECT_EQ(found.choices[c].finish, alone.choices[c].finish) << found.choices[c].error;
  }
  EXPECT_TRUE(found.prompt_logprobs == alone.prompt_logprobs);
}

/// A part of the schedules on a backend.
struct Shard {
  const char* backend;
  int32_t index;
};
void PrintTo(const Shard& shard, std::ostream* out) { *out << shard.backend << shard.index; }

class EngineBits : public testing::TestWithParam<Shard> {
 protected:
  void SetUp() override {
    if (const auto reason = test::absent(GetParam().backend)) GTEST_SKIP() << *reason;
  }
};

TEST_P(EngineBits, ARandomScheduleChangesNothing) {
  const gemma4::StepLimits limits = {.max_rows = 256, .max_logit_rows = 64};
  const bool on_cpu = std::string_view(GetParam().backend) == "cpu";
  test::Fable fable(limits, on_cpu ? cpu::make_cpu_backend({.threads = 1})
                                   : test::make_backend(GetParam().backend));
  const std::vector<Request> wanted = requests();
  std::vector<std::shared_ptr<Ledger>> alone;
  for (const Request& request : wanted) {
    EngineOptions options;
    options.page_size = kPage;
    options.kv_bytes = 64 << 20;
    options.prefix_caching = PrefixCaching::kOff;
    Driven driven(fable, options);
    alone.push_back(std::make_shared<Ledger>(request.choices));
    driven.send(request, alone.back());
    while (!driven.core().idle()) driven.turn();
    for (const Ledger::Choice& choice : alone.back()->choices)
      ASSERT_EQ(choice.finish, FinishReason::kLength) << choice.error;
  }
  int64_t preemptions = 0;
  int64_t cached = 0;
  const int32_t first = GetParam().index * kSchedules;
  for (int32_t schedule = first; schedule < first + kSchedules; ++schedule) {
    SCOPED_TRACE(schedule);
    std::mt19937_64 random(static_cast<uint64_t>(schedule));
    const bool with_long = schedule % 10 == 0;
    Driven driven(fable, options_of(random, with_long));
    std::vector<size_t> order = {1, 2, 3, 3};  // one comes again: after the first or beside it
    if (with_long) order.push_back(0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<std::pair<size_t, std::shared_ptr<Ledger>>> sent;
    std::optional<RequestHandle> neighbour;
    while (!order.empty() || !driven.core().idle()) {
      if (!order.empty() && (driven.core().idle() || random() % 4 == 0)) {
        const size_t which = order.back();
        order.pop_back();
        sent.emplace_back(which, std::make_shared<Ledger>(wanted[which].choices));
        driven.send(wanted[which], sent.back().second);
        if (!neighbour) {
          Request other = wanted[1 + random() % 3];
          other.max_tokens = 20;
          neighbour = driven.send(other, std::make_shared<Ledger>(other.choices));
        }
      }
      driven.turn();
      if (neighbour && random() % 8 == 0) {
        driven.core().cancel(*std::exchange(neighbour, std::nullopt));
      }
    }
    driven.core().check_integrity();
    for (const auto& [which, ledger] : sent) {
      SCOPED_TRACE(testing::Message() << "request " << which);
      expect_equal(*ledger, *alone[which]);
    }
    preemptions += driven.core().status().preemptions;
    cached += driven.core().status().cached_tokens;
    if (HasFailure()) break;
  }
  fmt::print("{} preemptions, {} tokens from the cache\n", preemptions, cached);
  EXPECT_GT(preemptions, 5);
  EXPECT_GT(cached, 500);
}

std::vector<Shard> shards() {
  std::vector<Shard> all;
  for (const char* backend : {"cpu", "cuda"}) {
    for (int32_t index = 0; index < kShards; ++index) all.push_back({backend, index});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Shards, EngineBits, testing::ValuesIn(shards()), [](const auto& info) {
  return fmt::format("{}_{}", info.param.backend, info.param.index);
});

}  // namespace
}  // namespace facet
