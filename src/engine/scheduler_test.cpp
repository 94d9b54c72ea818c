#include "engine/scheduler.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

using Kind = StepPlan::Kind;

constexpr int32_t kFar = 1 << 30;

SchedulerLimits limits() { return {64, 8, 4, 32, 4, {8, 100}}; }

/// Two groups with many pages.
SchedulerState state_of(std::vector<SchedulerState::Running> running) {
  SchedulerState state;
  state.running = std::move(running);
  state.available = {50, 50};
  state.prefill_rows = 5;
  return state;
}

std::vector<std::pair<int32_t, int32_t>> parts_of(const StepPlan& plan) {
  std::vector<std::pair<int32_t, int32_t>> parts;
  for (const StepPlan::Part& part : plan.parts) parts.emplace_back(part.sequence, part.rows);
  return parts;
}

using Parts = std::vector<std::pair<int32_t, int32_t>>;

TEST(Schedule, NothingToDoIsIdle) { EXPECT_EQ(schedule(state_of({}), limits()).kind, Kind::kIdle); }

TEST(Schedule, APromptAloneTakesTheWholeChunk) {
  const StepPlan plan = schedule(state_of({{0, 100, kFar}}), limits());
  EXPECT_EQ(plan.kind, Kind::kRun);
  EXPECT_EQ(parts_of(plan), (Parts{{0, 32}}));
}

TEST(Schedule, DecodesComeFirstAndPromptsFillTheirTime) {
  const SchedulerState state =
      state_of({{0, 3, kFar}, {10, 11, kFar}, {4, 30, kFar}, {7, 8, kFar}});
  EXPECT_EQ(parts_of(schedule(state, limits())), (Parts{{0, 3}, {1, 1}, {2, 2}, {3, 1}}));
}

TEST(Schedule, NoPartGoesPastItsCut) {
  EXPECT_EQ(parts_of(schedule(state_of({{0, 100, 12}}), limits())), (Parts{{0, 12}}));
}

TEST(Schedule, RowsThatAllNeedLogitsLeaveOneForEachOther) {
  const SchedulerState state = state_of({{0, 100, kFar, true}, {0, 100, kFar}, {0, 100, kFar}});
  EXPECT_EQ(parts_of(schedule(state, limits())), (Parts{{0, 6}, {1, 26}}));
}

TEST(Schedule, ShortPagesPreempt) {
  SchedulerState state = state_of({{8, 9, kFar}, {12, 13, kFar}});
  state.available = {50, 1};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kPreempt) << "both begin a page";
  state.available = {50, 2};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kRun);
  state = state_of({{8, 90, kFar}, {12, 130, kFar}});
  state.available = {0, 50};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kPreempt) << "prompts that nothing goes on for";
}

TEST(Schedule, PromptsTakeWhatPagesThereAre) {
  SchedulerState state = state_of({{6, 90, kFar}, {12, 130, kFar}});
  state.available = {50, 2};
  EXPECT_EQ(parts_of(schedule(state, limits())), (Parts{{0, 10}}));
}

TEST(Schedule, TheNextBeginsIfItsPromptFitsBesideWhatOthersNeed) {
  SchedulerState state = state_of({{8, 9, kFar}});
  const SchedulerState::Waiting next = {20, 0, {0, 0}};
  state.next = &next;
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kAdmit);
  // Five pages, one for the decode's next row and one for it to grow.
  state.available = {50, 6};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kRun);
  state.available = {50, 7};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kAdmit);
  state.may_admit = false;
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kRun);
}

TEST(Schedule, CachedPagesCountOnceAndWindowsAreBounded) {
  SchedulerState state = state_of({{8, 9, kFar}});
  // 200 of 400 positions cached, in 50 pages; of the sliding group 8 pages suffice for the rest.
  const SchedulerState::Waiting next = {400, 200, {2, 50}};
  state.next = &next;
  state.available = {2 + 8 + 2, 50 + 50 + 2};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kAdmit);
  state.available = {2 + 8 + 1, 50 + 50 + 2};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kRun);
  state.available = {2 + 8 + 2, 50 + 50 + 1};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kRun);
}

TEST(Schedule, AloneItAlwaysBeginsAndNeverMoreThanAllowedRun) {
  SchedulerState state = state_of({});
  const SchedulerState::Waiting next = {400, 0, {0, 0}};
  state.next = &next;
  state.available = {1, 1};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kAdmit);
  state = state_of({{1, 2, kFar}, {1, 2, kFar}, {1, 2, kFar}, {1, 2, kFar}});
  state.next = &next;
  state.available = {1000, 1000};
  EXPECT_EQ(schedule(state, limits()).kind, Kind::kRun);
}

}  // namespace
}  // namespace facet
