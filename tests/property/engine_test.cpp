// The engine with its threads, over backends that cost next to nothing: what any thread may ask,
// and what faults do.

#include "engine/engine.h"

#include <atomic>
#include <future>
#include <gtest/gtest.h>
#include <thread>

#include "base/error.h"
#include "tests/fake/hash_backend.h"
#include "tests/fake/scripted_backend.h"
#include "tests/fake/waiting_sink.h"

namespace facet {
namespace {

using test::Ledger;
using test::send;
using test::Sent;

constexpr int32_t kVocab = 32;
constexpr int32_t kEnd = 1;

EngineOptions small_options() {
  EngineOptions options;
  options.kv_dtype = DType::kF32;
  options.page_size = 4;
  options.pages = {200, 2000};
  options.max_running = 8;
  return options;
}

template <typename AnyBackend>
struct EngineOn {
  explicit EngineOn(AnyBackend& its_backend, const EngineOptions& options = small_options())
      : backend(its_backend),
        model(test::make_fake_model(backend, {.vocab_size = kVocab})),
        engine(*model, backend, options) {}

  AnyBackend& backend;
  std::unique_ptr<gemma4::Gemma4Model> model;
  Engine engine;
};

Request request_of(std::vector<int32_t> prompt, int32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

void wait_until(const std::function<bool()>& condition) {
  for (int32_t i = 0; i < 10'000 && !condition(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ASSERT_TRUE(condition());
}

TEST(Engine, AScriptComesOutAsWritten) {
  test::ScriptedBackend backend(kEnd);
  backend.add({.after = {}, .emit = {9, 9}});
  backend.add({.after = {5, 6}, .emit = {7, 8, 7, 8, 10}});
  EngineOn on(backend);
  Request request = request_of({2, 3, 5, 6}, 50);
  request.end_ids = {kEnd};
  request.choices = 3;
  request.logprobs = 1;
  const Sent sent = send(on.engine, request);
  for (const Ledger::Choice& choice : sent.sink->wait().choices) {
    EXPECT_EQ(choice.ids, (std::vector<int32_t>{7, 8, 7, 8, 10, kEnd}));
    EXPECT_EQ(choice.finish, FinishReason::kEndToken);
    ASSERT_EQ(choice.logprobs.size(), 6U);
    EXPECT_EQ(choice.logprobs[0].top[0].id, 7);
  }
  request = request_of({2, 3}, 2);
  EXPECT_EQ(send(on.engine, request).sink->wait().choices[0].ids, (std::vector<int32_t>{9, 9}));
}

TEST(Engine, ManyThreadsSendAndCancelAndEveryRequestEndsOnce) {
  test::HashBackend backend;
  EngineOn on(backend);
  std::atomic<int32_t> aborted = 0;
  std::vector<std::jthread> threads;
  for (int32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int32_t i = 0; i < 50; ++i) {
        Request request = request_of({t, i % kVocab, 3, 4, 5}, 1 + i % 20);
        request.choices = 1 + i % 3;
        const Sent sent = send(on.engine, std::move(request));
        if (i % 5 == 0) on.engine.cancel(sent.handle());
        if (i % 7 == 0) on.engine.cancel(sent.handle(), 0);
        on.engine.status();
        const Ledger& ledger = sent.sink->wait();
        for (const Ledger::Choice& choice : ledger.choices) {
          if (choice.finish == FinishReason::kAborted) ++aborted;
        }
      }
    });
  }
  threads.clear();
  EXPECT_TRUE(on.engine.idle());
  const EngineStatus status = on.engine.status();
  EXPECT_EQ(status.finished, 200);
  EXPECT_GT(status.steps, 0);
  EXPECT_EQ(status.running + status.waiting, 0);
  EXPECT_TRUE(on.engine.flush_prefix_cache());
  wait_until([&] {
    const auto groups = on.engine.status().groups;
    return groups[0].free == groups[0].pages && groups[1].free == groups[1].pages;
  });
}

TEST(Engine, WhoHearsOfAnEndFindsItInTheStatus) {
  /// Looks at the status as soon as it can.
  class LookingSink final : public TokenSink {
   public:
    explicit LookingSink(Engine& engine) : engine_(engine) {}
    void on_start(int32_t /*cached*/, std::vector<std::optional<TokenLogprob>> /*of*/) override {}
    void on_tokens(std::span<const TokenEvent> events) override {
      if (events.back().finish) found_.set_value(engine_.status());
    }
    EngineStatus wait() { return found_.get_future().get(); }

   private:
    Engine& engine_;
    std::promise<EngineStatus> found_;
  };
  test::HashBackend backend;
  EngineOn on(backend);
  for (int32_t i = 0; i < 20; ++i) {
    Request request = request_of({i, 2, 3}, 1 + i % 4);
    const auto sink = std::make_shared<LookingSink>(on.engine);
    request.sink = sink;
    on.engine.submit(std::move(request));
    const EngineStatus status = sink->wait();
    EXPECT_EQ(status.running + status.waiting, 0);
    EXPECT_EQ(status.finished, i + 1);
    EXPECT_TRUE(on.engine.idle());
  }
}

TEST(Engine, RefusesWhatCanNeverFinishAndWhatIsTooMuch) {
  test::HashBackend backend;
  EngineOptions options = small_options();
  options.pages = {200, 10};  // 40 positions
  options.max_running = 1;
  options.max_queue = 2;
  options.max_queue_tokens = 20;
  EngineOn on(backend, options);
  EXPECT_EQ(on.engine.limits().max_model_len, 40);
  const auto refusal = [&](int32_t prompt, int32_t tokens) {
    return send(on.engine, request_of(std::vector<int32_t>(static_cast<size_t>(prompt), 3), tokens))
        .refusal();
  };
  EXPECT_EQ(refusal(38, 3), Refusal::kTooLong);
  EXPECT_EQ(refusal(41, 0), Refusal::kTooLong);
  EXPECT_EQ(refusal(40, 0), Refusal::kQueueTokensFull);
  const Sent full = send(on.engine, request_of(std::vector<int32_t>(10, 3), 30));
  EXPECT_EQ(full.sink->wait().choices[0].finish, FinishReason::kLength);
  on.engine.drain();
  EXPECT_EQ(refusal(3, 3), Refusal::kDraining);
}

TEST(Engine, AFullQueueRefuses) {
  test::HashBackend backend;
  EngineOptions options = small_options();
  options.max_queue = 0;
  EngineOn on(backend, options);
  EXPECT_EQ(send(on.engine, request_of({1}, 1)).refusal(), Refusal::kQueueFull);
}

TEST(Engine, FieldsOutOfRangeAreNamed) {
  test::HashBackend backend;
  EngineOn on(backend);
  const auto message = [&](const std::function<void(Request&)>& change) -> std::string {
    Request request = request_of({1, 2}, 3);
    change(request);
    try {
      send(on.engine, std::move(request));
    } catch (const Error& error) {
      return error.what();
    }
    return "taken";
  };
  EXPECT_EQ(message([](Request& r) { r.prompt.clear(); }),
            "prompt: found 0, wanted at least one id");
  EXPECT_EQ(message([](Request& r) { r.prompt = {1, 32}; }), "prompt: found 32, wanted 0 to 31");
  EXPECT_EQ(message([](Request& r) { r.choices = 129; }), "choices: found 129, wanted 1 to 128");
  EXPECT_EQ(message([](Request& r) { r.min_tokens = 4; }),
            "min_tokens: found 4, wanted 0 to max_tokens, 3");
  EXPECT_EQ(message([](Request& r) { r.logprobs = 21; }), "logprobs: found 21, wanted 0 to 20");
  EXPECT_EQ(message([](Request& r) { r.prompt_logprobs = -1; }),
            "prompt_logprobs: found -1, wanted 0 to 20");
  EXPECT_EQ(message([](Request& r) { r.sampling.top_p = 2; }),
            "top_p: found 2, wanted above 0, at most 1");
  EXPECT_TRUE(on.engine.idle());
}

TEST(Engine, LogitsThatAreNoNumbersEndThatRequestAloneAndAreNotCached) {
  test::HashBackend backend;
  backend.faults.nan_id = 13;
  EngineOn on(backend);
  std::vector<int32_t> prompt(20, 3);
  prompt[6] = 13;
  Request good = request_of({4, 5, 6}, 40);
  good.never_ids = {13};
  const Sent neighbour = send(on.engine, good);
  for (int32_t turn = 0; turn < 2; ++turn) {
    Request request = request_of(prompt, 5);
    request.choices = 2;
    const Sent sent = send(on.engine, std::move(request));
    const Ledger& ledger = sent.sink->wait();
    EXPECT_EQ(ledger.cached_tokens, 0);
    for (const Ledger::Choice& choice : ledger.choices) {
      EXPECT_EQ(choice.finish, FinishReason::kError);
      EXPECT_EQ(choice.error, "the model's logits are not finite numbers");
      EXPECT_TRUE(choice.ids.empty());
    }
  }
  const Ledger& ledger = neighbour.sink->wait();
  EXPECT_EQ(ledger.choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(ledger.choices[0].ids.size(), 40U);
  EXPECT_FALSE(on.engine.status().failed);
}

TEST(Engine, AStepThatThrowsEndsEverything) {
  test::HashBackend backend;
  backend.faults.throwing_step = 12;
  EngineOn on(backend);
  std::vector<Sent> sent;
  for (int32_t i = 0; i < 12; ++i) sent.push_back(send(on.engine, request_of({i, 2, 3}, 1000)));
  for (const Sent& each : sent) {
    const Ledger::Choice choice = each.sink->wait().choices[0];
    EXPECT_EQ(choice.finish, FinishReason::kError);
    EXPECT_EQ(choice.error, "the engine failed: a planted fault");
  }
  EXPECT_TRUE(on.engine.status().failed);
  EXPECT_EQ(send(on.engine, request_of({1}, 1)).refusal(), Refusal::kFailed);
}

TEST(Engine, GoingAwayEndsWhatIsLeft) {
  test::HashBackend backend;
  std::vector<Sent> sent;
  {
    EngineOn on(backend);
    for (int32_t i = 0; i < 20; ++i) sent.push_back(send(on.engine, request_of({i, 2}, 5000)));
    sent.front().sink->wait_for_tokens(1);
    EXPECT_FALSE(on.engine.flush_prefix_cache()) << "requests run";
  }
  for (const Sent& each : sent)
    EXPECT_EQ(each.sink->wait().choices[0].finish, FinishReason::kAborted);
}

TEST(Engine, DeadlinesEndRequestsThatWaitAndThatRun) {
  test::HashBackend backend;
  EngineOptions options = small_options();
  options.max_running = 1;
  EngineOn on(backend, options);
  const auto now = std::chrono::steady_clock::now();
  Request runs = request_of({1, 2}, 7000);
  runs.deadline = now + std::chrono::milliseconds(60);
  const Sent running = send(on.engine, runs);
  running.sink->wait_for_tokens(1);
  Request waits = request_of({3, 4}, 5);
  waits.queue_deadline = now + std::chrono::milliseconds(20);
  const Sent waiting = send(on.engine, waits);
  EXPECT_EQ(waiting.sink->wait().choices[0].finish, FinishReason::kTimeout);
  EXPECT_EQ(running.sink->wait().choices[0].finish, FinishReason::kTimeout);
}

TEST(Engine, MetersKnowOfARequestBeforeItsSinkHearsOfItsEnd) {
  test::HashBackend backend;
  EngineOn on(backend);
  const EngineMeters& meters = on.engine.meters();
  int64_t rows = 0;
  for (int32_t i = 0; i < 20; ++i) {
    Request request = request_of({i, 2, 3, 4, 5}, i);  // the first wants no token
    request.choices = 1 + i % 2;
    rows += 5 + std::max(0, i - 1) * request.choices;
    send(on.engine, std::move(request)).sink->wait();
    EXPECT_EQ(meters.queue_seconds.snapshot().count(), i + 1);
    EXPECT_EQ(meters.prefill_seconds.snapshot().count(), i + 1);
    EXPECT_EQ(meters.decode_seconds.snapshot().count(), i + 1);
    EXPECT_EQ(meters.step_tokens.snapshot().sum, rows);
  }
  EXPECT_EQ(meters.step_seconds.snapshot().count(), meters.step_tokens.snapshot().count());
  // One that is cancelled while it waits was not measured; one that is cancelled later was begun.
  const Sent runs = send(on.engine, request_of({1, 2}, 7000));
  runs.sink->wait_for_tokens(1);
  on.engine.cancel(runs.handle());
  runs.sink->wait();
  EXPECT_EQ(meters.queue_seconds.snapshot().count(), 21);
  EXPECT_EQ(meters.decode_seconds.snapshot().count(), 21);
}

TEST(Engine, NoTokensMeansPromptLogprobsOnly) {
  test::HashBackend backend;
  EngineOn on(backend);
  Request request = request_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0);
  request.prompt_logprobs = 2;
  const Sent sent = send(on.engine, request);
  const Ledger& ledger = sent.sink->wait();
  EXPECT_EQ(ledger.choices[0].finish, FinishReason::kLength);
  EXPECT_TRUE(ledger.choices[0].ids.empty());
  ASSERT_EQ(ledger.prompt_logprobs.size(), 10U);
  EXPECT_FALSE(ledger.prompt_logprobs[0]);
  test::HashOracle oracle(kVocab, 6);
  oracle.read(1);
  EXPECT_TRUE(ledger.prompt_logprobs[1] == token_logprob(oracle.logits(), 2, 2));
}

}  // namespace
}  // namespace facet
