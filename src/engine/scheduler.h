#pragma once

#include <cstdint>
#include <vector>

namespace facet {

/// What the scheduler has to keep to. Fixed.
struct SchedulerLimits {
  int32_t max_rows = 0;        ///< of a step
  int32_t max_logit_rows = 0;  ///< of a step; at least max_running
  int32_t max_running = 0;     ///< sequences; at most max_rows
  int32_t prefill_chunk = 0;   ///< prompt rows of a step
  int32_t page_size = 0;
  /// Pages of each KV group that one sequence holds at most.
  std::vector<int32_t> most_pages;
};

/// Everything that a decision depends on. Positions are those after the step under way.
struct SchedulerState {
  /// A sequence that holds pages.
  struct Running {
    int32_t computed = 0;     ///< positions whose keys and values are there
    int32_t known = 0;        ///< tokens, one that the step under way brings included; > computed
    int32_t cut = 0;          ///< no part of a step goes past this position; > computed
    bool all_logits = false;  ///< its rows need logits, each
  };
  /// A sequence that has none, or none any more.
  struct Waiting {
    int32_t known = 0;           ///< tokens
    int32_t cached = 0;          ///< positions that the prefix cache has: whole pages
    std::vector<int32_t> locks;  ///< by KV group: pages it would take from what can be evicted
  };

  std::vector<Running> running;    ///< best rank first
  const Waiting* next = nullptr;   ///< the waiting sequence of the best rank that could begin now
  std::vector<int32_t> available;  ///< by KV group: pages that are free or can be evicted
  int32_t prefill_rows = 0;        ///< prompt rows that a step with decodes can take; may be 0
  bool may_admit = true;           ///< not after a preemption for the same step
};

/// One decision. kAdmit and kPreempt are carried out and followed by the next decision for the same
/// step; kRun is the step.
struct StepPlan {
  enum class Kind {
    kIdle,     ///< nothing to run
    kAdmit,    ///< `next` begins
    kPreempt,  ///< the last of `running` loses its pages
    kRun,
  };
  struct Part {
    int32_t sequence = 0;  ///< index into `running`
    int32_t rows = 0;
  };
  Kind kind = Kind::kIdle;
  std::vector<Part> parts;  ///< kRun: at most one for each sequence, in the order of `running`
};

/// Decides what happens next. Depends on nothing but its arguments.
///
/// - Every decode takes part in every step. If pages are short for them, the sequence of the last
///   rank loses its own. The first rank never does: alone, it fits.
/// - Then `next` begins, if its whole prompt has room beside what the others still need for theirs
///   and a page of growth each. Nobody overtakes it.
/// - Then prompts, in order of rank, fill the rows that a step has for them.
StepPlan schedule(const SchedulerState& state, const SchedulerLimits& limits);

}  // namespace facet
