#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "tests/fake/ledger.h"

namespace facet::test {

/// A ledger for an engine with threads: can be waited for, and notes when tokens came.
class WaitingSink final : public TokenSink {
 public:
  using Clock = std::chrono::steady_clock;

  explicit WaitingSink(int32_t choices) : ledger_(choices) {}

  void on_start(int32_t cached, std::vector<std::optional<TokenLogprob>> prompt) override {
    const std::lock_guard lock(mu_);
    ledger_.on_start(cached, std::move(prompt));
  }
  void on_tokens(std::span<const TokenEvent> events) override {
    const std::lock_guard lock(mu_);
    ledger_.on_tokens(events);
    times_.insert(times_.end(), events.size(), Clock::now());
    changed_.notify_all();
  }

  /// Waits for the end of all choices.
  const Ledger& wait() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return ledger_.done(); });
    return ledger_;
  }
  /// Waits for so many tokens of the first choice, or the end.
  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return ledger_.done() || ledger_.choices[0].ids.size() >= count; });
  }
  /// So many beyond those that are there now.
  void wait_for_more_tokens(size_t count) {
    size_t now = 0;
    {
      const std::lock_guard lock(mu_);
      now = ledger_.choices[0].ids.size();
    }
    wait_for_tokens(now + count);
  }
  /// When each event came; after wait().
  const std::vector<Clock::time_point>& times() const { return times_; }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  Ledger ledger_;
  std::vector<Clock::time_point> times_;
};

/// A request and what came of it.
struct Sent {
  std::shared_ptr<WaitingSink> sink;
  std::variant<RequestHandle, Refusal> answer;

  RequestHandle handle() const { return std::get<RequestHandle>(answer); }
  std::optional<Refusal> refusal() const {
    const auto* refusal = std::get_if<Refusal>(&answer);
    return refusal == nullptr ? std::nullopt : std::optional(*refusal);
  }
};

inline Sent send(Engine& engine, Request request) {
  Sent sent = {std::make_shared<WaitingSink>(request.choices), {}};
  request.sink = sent.sink;
  sent.answer = engine.submit(std::move(request));
  return sent;
}

}  // namespace facet::test
