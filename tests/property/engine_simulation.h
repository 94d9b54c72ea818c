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
#include "tests/property/turn_watch.h"

namespace facet::test {

/// A model on a hash backend, made once for many simulations.
struct SimulatedModel {
  explicit SimulatedModel(int32_t its_window);

  const int32_t window;
  HashBackend backend;
  std::unique_ptr<gemma4::Gemma4Model> model;
};

/// One life of an engine, all of it drawn from a seed: options, pools from the smallest that hold a
/// sequence, requests, arrivals, cancellations, time, faults of the device. Only the backend, the
/// clock, the thread of steps and, for every other seed, the hash of the prefix cache are not the
/// shipped ones. Pages are recounted after each turn.
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
    int64_t not_finite = 0;  // choices that a flaky row ended
    int64_t failed = 0;      // engines that a step ended
  };
  const Totals& totals() const { return totals_; }

 private:
  int32_t draw(int32_t low, int32_t high);
  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  void draw_options();
  void draw_faults();
  std::vector<int32_t> draw_prompt();
  Request draw_request();
  void send(Request request, int32_t guided);
  void send_probes();
  void cancel_some();
  void turn();
  void check_answers();
  void check_answer(const SimulatedRequest& sent);
  void check_prompt_logprobs(const SimulatedRequest& sent) const;
  bool cut_short(const SimulatedRequest& sent, size_t choice);
  int32_t longest_known_prefix(size_t sent) const;

  const uint64_t seed_;
  SimulatedModel& model_;
  std::mt19937_64 random_;
  FakeClock clock_;
  InlineRunner runner_;
  EngineOptions options_;
  std::unique_ptr<EngineCore> core_;
  std::vector<SimulatedRequest> sent_;
  TurnWatch watch_{clock_, sent_};
  bool only_prompts_ = false;  // no request grows beyond its prompt
  bool flaky_ = false;
  int64_t preemptions_ = 0;  // as of the last step
  bool probes_ = false;      // of what is sent from now on
  int64_t work_ = 0;         // tokens that the requests ask for at most
  int64_t turns_ = 0;
  Totals totals_;
};

}  // namespace facet::test
