#pragma once

#include <chrono>
#include <cstdint>
#include <gtest/gtest.h>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/fake/hash_backend.h"
#include "tests/fake/ledger.h"

namespace facet::test {

/// A request of a simulation, and what came of it.
struct SimulatedRequest {
  RequestHandle handle{};
  Request request;  // without its sink
  std::shared_ptr<Ledger> ledger;
  std::chrono::steady_clock::time_point came;
  int32_t guided = 0;   // see make_simulated_guide
  bool probes = false;  // sent when nothing fails any more
  bool cancelled = false;
  std::vector<bool> choice_cancelled;
};

/// Fails the test where the engine's order of things is not what engine/README.md and engine.h
/// promise: who begins, who reads on, what ends in time.
///
/// - Nobody begins before a better rank that waits, and each choice begins once.
/// - Every decode takes part in every step; only those of the last ranks lose their pages, and no
///   more of them than the engine counts.
/// - What is cancelled or out of time ends within the turn, and nothing runs out of time early.
class TurnWatch {
 public:
  using TimePoint = FakeClock::TimePoint;

  /// Both outlive it; `sent` grows.
  TurnWatch(const FakeClock& clock, const std::vector<SimulatedRequest>& sent)
      : clock_(clock), sent_(sent) {}

  void set_order(ScheduleOrder order) { order_ = order; }
  /// `choice` of sent[index] runs for the first time.
  void begins(size_t index, int32_t choice);
  void before_turn();
  /// With the status after it.
  void after_turn(const EngineStatus& status);

 private:
  struct Choice {
    bool begun = false;
    bool ended = false;
    size_t tokens = 0;
    bool decodes = false;  // the step under way reads its last token
  };
  struct Progress {
    bool begun = false;
    bool begun_before = false;  // the turn
    bool over = false;
    std::vector<Choice> choices;
  };
  /// Smaller goes first.
  using Rank = std::pair<int64_t, size_t>;

  Rank rank(size_t index) const;
  bool passed(const std::optional<TimePoint>& deadline, TimePoint now) const {
    return deadline && *deadline <= now;
  }
  bool waits(size_t index) const;
  void look_at(size_t index, bool launched);
  void check_decodes();

  const FakeClock& clock_;
  const std::vector<SimulatedRequest>& sent_;
  ScheduleOrder order_ = ScheduleOrder::kFcfs;
  std::vector<Progress> progress_;  // by index into sent_
  TimePoint turn_began_;

  // As of the last turn.
  int64_t steps_ = 0;
  int64_t all_preemptions_ = 0;
  int64_t preemptions_ = 0;  // in it

  struct Decode {
    Rank rank;
    int32_t choice;
    bool brought;  // a token
  };
  std::vector<Decode> decodes_;  // scratch: of the step that this turn collected
};

}  // namespace facet::test
