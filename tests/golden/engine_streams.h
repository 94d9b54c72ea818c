#pragma once

#include <chrono>
#include <condition_variable>
#include <gtest/gtest.h>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"

namespace facet::test {

using Clock = std::chrono::steady_clock;

/// Notes when each token came.
class TimedSink final : public TokenSink {
 public:
  void on_start(int32_t cached_tokens,
                std::vector<std::optional<TokenLogprob>> /*prompt_logprobs*/) override {
    const std::lock_guard lock(mu_);
    cached_ = cached_tokens;
  }
  void on_tokens(std::span<const TokenEvent> events) override {
    const std::lock_guard lock(mu_);
    for (const TokenEvent& event : events) {
      if (event.id >= 0) ids_.push_back(event.id);
      if (event.logprob) logprobs_.push_back(*event.logprob);
      times_.push_back(Clock::now());
      if (event.finish) finish_ = event.finish;
    }
    changed_.notify_all();
  }

  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return ids_.size() >= count || finish_; });
  }
  FinishReason wait() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return finish_.has_value(); });
    return *finish_;
  }
  // After wait().
  const std::vector<int32_t>& ids() const { return ids_; }
  const std::vector<TokenLogprob>& logprobs() const { return logprobs_; }
  const std::vector<Clock::time_point>& times() const { return times_; }
  int32_t cached() const { return cached_; }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<int32_t> ids_;
  std::vector<TokenLogprob> logprobs_;
  std::vector<Clock::time_point> times_;
  std::optional<FinishReason> finish_;
  int32_t cached_ = 0;
};

struct Sent {
  RequestHandle handle{};
  std::shared_ptr<TimedSink> sink = std::make_shared<TimedSink>();
};

inline Sent send(Engine& engine, Request request) {
  Sent sent;
  request.sink = sent.sink;
  const auto answer = engine.submit(std::move(request));
  EXPECT_TRUE(std::holds_alternative<RequestHandle>(answer));
  if (std::holds_alternative<RequestHandle>(answer)) sent.handle = std::get<RequestHandle>(answer);
  return sent;
}

}  // namespace facet::test
