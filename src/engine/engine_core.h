#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/prefix_cache.h"
#include "engine/engine.h"
#include "engine/row_logits.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/step_batch.h"
#include "engine/step_costs.h"
#include "engine/step_runner.h"

namespace facet {

/// What an engine is made of besides its options. All must outlive it.
struct EngineParts {
  Model& model;
  const Buffer::Allocator& allocator;
  StepRunner& runner;  ///< of `model`
  std::function<std::chrono::steady_clock::time_point()> now;
  PageHash page_hash = hash_page;  ///< of the prefix cache
};

/// The engine without its threads: requests, sequences, pages, and the loop's one turn. Owned and
/// used by one thread; only `runner` works beside it. README.md has the order of things in a turn.
class EngineCore {
 public:
  /// Throws as Engine's constructor does.
  EngineCore(EngineParts parts, const EngineOptions& options);
  ~EngineCore();
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  const EngineLimits& limits() const { return limits_; }
  /// Takes a request that check_request() and fits() have passed. `handle` rises from call to call.
  void submit(RequestHandle handle, Request request);
  /// Without a choice: all of them.
  void cancel(RequestHandle handle, std::optional<int32_t> choice = std::nullopt);
  /// Ends everything with kAborted, and waits for the step under way. tell() follows.
  void abort_all();
  /// Plans a step, collects the one under way, launches the next. tell() follows; requests that
  /// ended count as finished before that.
  void turn();
  /// Tells the sinks what came.
  void tell();
  /// After turn() or tell() threw, for want of memory most likely: what they left half done is not
  /// touched again. Every request that is left ends with kError and is told so, later ones at once.
  void give_up();
  /// Something useful and short for idle time; false if there is nothing.
  bool rest();

  /// No request is left, and so no step under way.
  bool idle() const { return requests_.empty(); }
  bool failed() const { return !failure_.empty(); }
  int32_t waiting_requests() const { return waiting_requests_; }
  int64_t waiting_tokens() const { return waiting_tokens_; }
  /// The earliest moment at which a request may time out.
  std::optional<std::chrono::steady_clock::time_point> next_deadline() const;
  /// Drops the cached pages; false if requests are there.
  bool flush_prefix_cache();
  EngineStatus status() const;
  /// Any thread may read them.
  const EngineMeters& meters() const { return meters_; }
  /// Recounts every page. CHECKs.
  void check_integrity() const;

 private:
  /// One sequence's part of a step.
  struct Part {
    Sequence* sequence = nullptr;
    int32_t begin = 0;  // positions
    int32_t end = 0;
    bool is_decode = false;
    bool samples = false;   // ends with the last token known, so its last row says what comes next
    bool snapshot = false;  // the prefix cache gets what was computed so far
    LogitRows logits = LogitRows::kNone;

    int64_t logit_rows() const {
      return logits == LogitRows::kAll ? end - begin : logits == LogitRows::kLast ? 1 : 0;
    }
  };
  /// A waiting sequence that could begin, with what the prefix cache has of it.
  struct Candidate {
    Sequence* sequence = nullptr;
    std::vector<int32_t> tokens;
    PrefixCache::Match match;
    SchedulerState::Waiting state;
  };
  struct ByRank {
    bool operator()(const Sequence* a, const Sequence* b) const { return a->rank < b->rank; }
  };

  // engine_plan.cpp: decisions carried out.
  void plan();
  void fill_state();
  bool ends_in_flight(const Sequence& sequence) const;
  bool wants_prompt_logprobs(const Sequence& sequence) const;
  Sequence* first_eligible() const;
  void find_candidate();
  void begin(Sequence& sequence);
  void start_sampling(Sequence& sequence);
  void add_running(Sequence& sequence);
  void preempt(Sequence& sequence);
  void prepare(const StepPlan& plan);
  int32_t next_cut(const Sequence& sequence) const;
  void trim(const Sequence& sequence);
  void make_room(int32_t pages);
  int32_t available(int32_t group) const;
  void launch();
  DrawSpec draw_of(const Part& part) const;
  void fill_draws();

  // engine_collect.cpp: what a step brought.
  void collect();
  void take(const Part& part, const StepOutcome& outcome, int64_t first_row);
  void take_prompt_logprobs(const Part& part, std::span<const float> logits);
  void take_first_tokens(Sequence& leader, RowLogits& logits);
  Sequence* fork_next(const Sequence& leader);
  TokenMask mask_of(const Sequence& sequence) const;
  int32_t sample(Sequence& sequence, RowLogits& logits, const TokenMask& mask);
  void choose(Sequence& sequence, RowLogits& logits);
  void fail(const std::string& message);

  // engine_core.cpp: requests and their ends.
  void end(Sequence& sequence, FinishReason reason, std::string error = {});
  void end_all(ActiveRequest& request, FinishReason reason, const std::string& error = {});
  void leave_queue(ActiveRequest& request);
  void note_event(ActiveRequest& request, TokenEvent event);
  void expire();
  void retire(ActiveRequest& request);
  void settle();
  void release_retired();
  void insert_prefix(const Sequence& sequence, int32_t length);
  void measure(ActiveRequest& request);
  void tell(ActiveRequest& request);
  void tell_failure(ActiveRequest& request);

  // Constant after construction.
  EngineParts parts_;
  const EngineOptions options_;
  EngineLimits limits_;
  SchedulerLimits scheduler_limits_;

  std::unique_ptr<KvCache> cache_;
  std::optional<PrefixCache> prefix_;  // not with PrefixCaching::kOff

  std::map<RequestHandle, std::unique_ptr<ActiveRequest>> requests_;
  std::set<Sequence*, ByRank> waiting_;
  std::vector<Sequence*> running_;  // by rank
  std::multimap<std::chrono::steady_clock::time_point, RequestHandle> deadlines_;
  int32_t waiting_requests_ = 0;  // not begun
  int64_t waiting_tokens_ = 0;    // of their prompts

  StepCosts costs_;
  StepBatch batch_;
  std::vector<DrawSpec> draws_;  // of the step's logit rows; empty: the host draws
  bool in_flight_ = false;
  std::string failure_;        // what a step threw; nothing runs after that
  bool gave_up_ = false;       // and the pages are in no known state
  std::vector<Part> flight_;   // of the step under way
  std::vector<Part> planned_;  // of the next one

  // Between collect() and settle().
  std::vector<Sequence*> retired_;    // ended with a slot
  std::vector<Sequence*> snapshots_;  // with something new for the prefix cache

  // Between collect() and tell().
  std::vector<ActiveRequest*> news_;                   // with events, or ended
  std::vector<std::unique_ptr<ActiveRequest>> ended_;  // of requests_, and counted

  // Scratch.
  SchedulerState state_;
  std::vector<Sequence*> considered_;  // those of state_.running
  Candidate candidate_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;  // of one row
  Sampler::Scratch sampler_scratch_;

  EngineStatus counters_;  // what status() does not look up
  EngineMeters meters_;
};

/// Throws Error{kUsage} or Error{kBadInput} for a field out of range.
void check_request(const Request& request, int32_t vocab_size);

}  // namespace facet
