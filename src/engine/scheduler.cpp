#include "engine/scheduler.h"

#include <algorithm>

namespace facet {
namespace {

using Running = SchedulerState::Running;

int32_t pages_over(int32_t positions, int32_t page_size) {
  return (positions + page_size - 1) / page_size;
}

/// Pages to add, in every group, for `rows` more positions.
int32_t added_pages(const Running& sequence, int32_t rows, int32_t page_size) {
  return pages_over(sequence.computed + rows, page_size) - pages_over(sequence.computed, page_size);
}

/// A decode has one token that is not read yet; a prompt has several, or ends with this one.
bool is_decode(const Running& sequence) { return sequence.known - sequence.computed == 1; }

bool has_room(const SchedulerState& state, const SchedulerLimits& limits) {
  if (state.running.empty()) return true;  // alone it fits, or it would not have been taken
  const SchedulerState::Waiting& next = *state.next;
  const int32_t added = pages_over(next.known, limits.page_size) - next.cached / limits.page_size;
  for (size_t g = 0; g < state.available.size(); ++g) {
    // Of a window's pages, those behind it are given back while a long prompt is read.
    const int32_t most = limits.most_pages[g];
    int64_t needed = next.locks[g] + std::min(added, most);
    for (const Running& sequence : state.running) {
      const int32_t rest = sequence.known - sequence.computed;
      needed += std::min(added_pages(sequence, rest, limits.page_size), most) + 1;
    }
    if (needed > state.available[g]) return false;
  }
  return true;
}

/// Hands out the rows of a step.
class Packer {
 public:
  Packer(const SchedulerState& state, const SchedulerLimits& limits)
      : state_(state),
        limits_(limits),
        rows_(state.running.size(), 0),
        pages_left_(*std::min_element(state.available.begin(), state.available.end())),
        rows_left_(limits.max_rows),
        logit_rows_left_(limits.max_logit_rows) {}

  /// false if a pool is short.
  bool pack_decodes() {
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (!is_decode(state_.running[i])) continue;
      const int32_t pages = added_pages(state_.running[i], 1, limits_.page_size);
      if (pages > pages_left_) return false;
      take(i, 1, pages);
      ++decodes_;
    }
    return true;
  }

  void pack_prompts() {
    int32_t budget = limits_.prefill_chunk;
    if (decodes_ > 0) budget = std::min(budget, state_.prefill_rows);
    auto undecided = static_cast<int32_t>(rows_.size()) - decodes_;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const Running& sequence = state_.running[i];
      if (is_decode(sequence)) continue;
      --undecided;
      const int32_t in_page =
          pages_over(sequence.computed, limits_.page_size) * limits_.page_size - sequence.computed;
      // 64 bits: a large pool has more positions than an int32_t.
      const int64_t in_pool = in_page + int64_t{pages_left_} * limits_.page_size;
      int32_t rows = std::min({sequence.known, sequence.cut}) - sequence.computed;
      rows = std::min({rows, budget, rows_left_});
      rows = static_cast<int32_t>(std::min<int64_t>(rows, in_pool));
      // Each of the others may need one.
      if (sequence.all_logits) rows = std::min(rows, logit_rows_left_ - undecided);
      if (rows <= 0) continue;
      take(i, rows, added_pages(sequence, rows, limits_.page_size));
      budget -= rows;
    }
  }

  std::vector<StepPlan::Part> parts() const {
    std::vector<StepPlan::Part> parts;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i] > 0) parts.push_back({static_cast<int32_t>(i), rows_[i]});
    }
    return parts;
  }

 private:
  void take(size_t index, int32_t rows, int32_t pages) {
    rows_[index] = rows;
    rows_left_ -= rows;
    pages_left_ -= pages;
    logit_rows_left_ -= state_.running[index].all_logits ? rows : 1;
  }

  const SchedulerState& state_;
  const SchedulerLimits& limits_;
  std::vector<int32_t> rows_;  // by sequence
  int32_t decodes_ = 0;
  int32_t pages_left_;  // of the shortest pool: a position needs one page in every group
  int32_t rows_left_;
  int32_t logit_rows_left_;
};

}  // namespace

StepPlan schedule(const SchedulerState& state, const SchedulerLimits& limits) {
  using Kind = StepPlan::Kind;
  Packer packer(state, limits);
  if (!packer.pack_decodes()) return {Kind::kPreempt, {}};
  const bool can_admit =
      state.may_admit && state.next != nullptr && std::ssize(state.running) < limits.max_running;
  if (can_admit && has_room(state, limits)) return {Kind::kAdmit, {}};
  packer.pack_prompts();
  std::vector<StepPlan::Part> parts = packer.parts();
  if (!parts.empty()) return {Kind::kRun, std::move(parts)};
  // Prompts that hold each other's pages: the last makes way.
  return {state.running.empty() ? Kind::kIdle : Kind::kPreempt, {}};
}

}  // namespace facet
