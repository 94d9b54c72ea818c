#include "tests/property/turn_watch.h"

#include <algorithm>
#include <tuple>

namespace facet::test {

TurnWatch::Rank TurnWatch::rank(size_t index) const {
  if (order_ == ScheduleOrder::kFcfs) return {0, index};
  // Each unit of priority is worth ten seconds of waiting.
  const SimulatedRequest& sent = sent_[index];
  const auto key = sent.came.time_since_epoch() + sent.request.priority * std::chrono::seconds(10);
  return {std::chrono::nanoseconds(key).count(), index};
}

bool TurnWatch::waits(size_t index) const {
  const SimulatedRequest& sent = sent_[index];
  const auto now = clock_.now();
  const bool ended =
      sent.cancelled || sent.ledger->done() || passed(sent.request.deadline, now) ||
      passed(sent.request.queue_deadline, now) ||
      std::count(sent.choice_cancelled.begin(), sent.choice_cancelled.end(), false) == 0;
  return !progress_[index].begun && !ended;
}

void TurnWatch::begins(size_t index, int32_t choice) {
  Progress& mine = progress_[index];
  for (size_t other = 0; other < progress_.size(); ++other) {
    if (rank(other) < rank(index) && waits(other))
      ADD_FAILURE() << "request " << index << " overtakes " << other;
  }
  for (int32_t before = 0; before < choice; ++before) {
    const auto b = static_cast<size_t>(before);
    EXPECT_TRUE(mine.choices[b].begun || sent_[index].choice_cancelled[b])
        << "request " << index << ": choice " << choice << " overtakes " << before;
  }
  Choice& begun = mine.choices[static_cast<size_t>(choice)];
  EXPECT_FALSE(begun.begun) << "request " << index << ": choice " << choice << " begins again";
  begun.begun = true;
  mine.begun = true;
}

void TurnWatch::before_turn() {
  for (size_t index = progress_.size(); index < sent_.size(); ++index) {
    progress_.emplace_back();
    progress_.back().choices.resize(sent_[index].ledger->choices.size());
  }
  for (Progress& progress : progress_) progress.begun_before = progress.begun;
  turn_began_ = clock_.now();
}

void TurnWatch::after_turn(const EngineStatus& status) {
  const bool launched = status.steps > steps_;
  steps_ = status.steps;
  decodes_.clear();
  for (size_t index = 0; index < progress_.size(); ++index) {
    if (!progress_[index].over) look_at(index, launched);
  }
  check_decodes();
  preemptions_ = status.preemptions - all_preemptions_;
  all_preemptions_ = status.preemptions;
}

void TurnWatch::look_at(size_t index, bool launched) {
  const SimulatedRequest& sent = sent_[index];
  Progress& progress = progress_[index];
  const bool out_of_time =
      passed(sent.request.deadline, turn_began_) ||
      (!progress.begun_before && passed(sent.request.queue_deadline, turn_began_));
  progress.over = sent.ledger->done();
  if (sent.cancelled || out_of_time) {
    EXPECT_TRUE(progress.over) << "request " << index << " was "
                               << (sent.cancelled ? "cancelled" : "out of time") << " and goes on";
  }
  for (size_t c = 0; c < progress.choices.size(); ++c) {
    const Ledger::Choice& found = sent.ledger->choices[c];
    Choice& choice = progress.choices[c];
    const bool ended = found.finish.has_value();
    const bool ends = ended && !choice.ended;
    if (sent.choice_cancelled[c])
      EXPECT_TRUE(ended) << "request " << index << ": choice " << c << " was cancelled, goes on";
    if (ends && found.finish == FinishReason::kTimeout)
      EXPECT_TRUE(out_of_time) << "request " << index << " had time left";
    const bool brought = found.ids.size() > choice.tokens;
    // An end from outside says nothing: one that lost its pages can be cancelled too.
    if (choice.decodes && (brought || !ends))
      decodes_.push_back({rank(index), static_cast<int32_t>(c), brought});
    // Its first token may come from a fork, whose own step is the one after the next.
    choice.decodes = launched && brought && !ended && choice.tokens > 0;
    choice.tokens = found.ids.size();
    choice.ended = ended;
  }
}

/// Whoever brought a token with the step before brings one with this, but for those that lost their
/// pages while that one ran.
void TurnWatch::check_decodes() {
  std::sort(decodes_.begin(), decodes_.end(), [](const Decode& a, const Decode& b) {
    return std::tie(a.rank, a.choice) < std::tie(b.rank, b.choice);
  });
  int64_t missing = 0;
  for (const Decode& decode : decodes_) {
    if (!decode.brought) {
      ++missing;
    } else {
      EXPECT_EQ(missing, 0) << "a better rank than request " << decode.rank.second
                            << " stands still";
    }
  }
  EXPECT_LE(missing, preemptions_) << "decodes stand still";
}

}  // namespace facet::test
