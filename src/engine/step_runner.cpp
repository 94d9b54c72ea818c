#include "engine/step_runner.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "base/check.h"

namespace facet {
namespace {

StepOutcome run(Model& model, const Step& step) {
  using Clock = std::chrono::steady_clock;
  StepOutcome outcome;
  const auto start = Clock::now();
  try {
    outcome.logits = *model.forward(step);  // without an observer nobody gives a step up
    if (step.top_only) outcome.top = model.top_logits();
    if (!step.draws.empty()) outcome.drawn = model.drawn();
  } catch (const std::exception& error) {
    outcome.error = error.what();
    if (outcome.error.empty()) outcome.error = "a step failed";
  }
  outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return outcome;
}

class ThreadRunner final : public StepRunner {
 public:
  explicit ThreadRunner(Model& model)
      : model_(model), thread_([this](const std::stop_token& stop) { work(stop); }) {}

  void launch(const Step& step) override {
    {
      const std::lock_guard lock(mu_);
      CHECK(!step_ && !outcome_, "a step is under way");
      step_.emplace(step);
    }
    changed_.notify_all();
  }

  StepOutcome collect() override {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return outcome_.has_value(); });
    StepOutcome outcome = std::move(*outcome_);
    outcome_.reset();
    return outcome;
  }

 private:
  void work(const std::stop_token& stop) {
    std::unique_lock lock(mu_);
    while (changed_.wait(lock, stop, [&] { return step_.has_value(); })) {
      lock.unlock();
      StepOutcome outcome = run(model_, *step_);
      lock.lock();
      step_.reset();
      outcome_ = std::move(outcome);
      lock.unlock();  // or who is waiting would wake to wait for it
      changed_.notify_all();
      lock.lock();
    }
  }

  Model& model_;

  std::mutex mu_;
  std::condition_variable_any changed_;
  std::optional<Step> step_;            // guarded by mu_; read by the thread while it runs
  std::optional<StepOutcome> outcome_;  // guarded by mu_

  std::jthread thread_;  // last: it uses the others
};

}  // namespace

std::unique_ptr<StepRunner> make_thread_runner(Model& model) {
  return std::make_unique<ThreadRunner>(model);
}

}  // namespace facet
