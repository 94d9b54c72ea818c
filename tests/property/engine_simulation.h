#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/engine_core.h"
#include "tests/fake/hash_backend.h"
#include "tests/fake/inline_runner.h"
#include "tests/fake/ledger.h"

namespace facet::test {

/// A model on a hash backend, made once for many simulations.
struct SimulatedModel {
  explicit SimulatedModel(int32_t its_window);

  const int32_t window;
  HashBackend backend;
  std::unique_ptr<gemma4::Gemma4Model> model;
};

/// One life of an engine, all of it drawn from a seed: options, pools from the smallest that hold a
/// sequence, requests, arrivals, cancellations, time. Only the backend, the clock and the thread of
/// steps are not the shipped ones. Pages are recounted after each turn.
class EngineSimulation {
 public:
  EngineSimulation(uint64_t seed, SimulatedModel& model);
  /// Runs to the end, and fails the test where an invariant does not hold.
  void run();

  struct Totals {
    int64_t turns = 0;
    int64_t requests = 0;
    int64_t preemptions = 0;
    int64_t cached_tokens = 0;
    int64_t aborted = 0;
    int64_t timeouts = 0;
    int64_t generated = 0;
  };
  const Totals& totals() const { return totals_; }

 private:
  struct Sent {
    RequestHandle handle{};
    Request request;  // without its sink
    std::shared_ptr<Ledger> ledger;
    int32_t guided = 0;  // the guide's kind, 0: none
    bool cancelled = false;
    std::vector<bool> choice_cancelled;
    bool timed = false;
  };

  int32_t draw(int32_t low, int32_t high);
  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  void draw_options();
  std::vector<int32_t> draw_prompt();
  void send();
  void cancel_some();
  void check_turn();
  void check_answers();
  void check_answer(const Sent& sent);
  int32_t longest_known_prefix(size_t sent) const;

  const uint64_t seed_;
  SimulatedModel& model_;
  std::mt19937_64 random_;
  FakeClock clock_;
  InlineRunner runner_;
  EngineOptions options_;
  std::unique_ptr<EngineCore> core_;
  std::vector<Sent> sent_;
  int64_t work_ = 0;  // tokens that the requests ask for at most
  Totals totals_;
};

}  // namespace facet::test
