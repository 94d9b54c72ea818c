// EngineCore: what the scheduler decides, carried out. Runs while a step is under way, and launches
// the next one.

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/engine_core.h"

namespace facet {
bool EngineCore::ends_in_flight(const Sequence& sequence) const {
  return sequence.token_in_flight &&
         std::ssize(sequence.output) + 1 >= sequence.request->request.max_tokens;
}

bool EngineCore::wants_prompt_logprobs(const Sequence& sequence) const {
  const ActiveRequest& live = *sequence.request;
  return live.request.prompt_logprobs && !live.prompt_logprobs_done && sequence.fresh();
}

int32_t EngineCore::available(int32_t group) const {
  const PageAllocator& pages = cache_->pages(group);
  return pages.free_pages() + pages.cached_alone();
}

void EngineCore::make_room(int32_t pages) {
  if (!prefix_) return;
  for (int32_t g = 0; g < cache_->group_count(); ++g) prefix_->evict(g, pages);
}

int32_t EngineCore::next_cut(const Sequence& sequence) const {
  if (!prefix_) return std::numeric_limits<int32_t>::max();
  // Whole pages.
  const int32_t apart =
      std::max(1, options_.snapshot_positions / options_.page_size) * options_.page_size;
  const int32_t next = (sequence.computed / apart + 1) * apart;
  return sequence.branch > sequence.computed ? std::min(sequence.branch, next) : next;
}

void EngineCore::trim(const Sequence& sequence) {
  int32_t position = sequence.computed;
  // The window before the last border of pages, and before the one before it, can be resumed from:
  // the next prompt of a conversation parts from this one a little before its end.
  if (prefix_) position = std::max(0, position / options_.page_size - 1) * options_.page_size;
  cache_->trim(*sequence.slot, position);
}

Sequence* EngineCore::first_eligible() const {
  for (Sequence* sequence : waiting_) {
    const Sequence* leader = sequence->request->leader;
    if (leader == nullptr || !sequence->fresh()) return sequence;
  }
  return nullptr;
}

void EngineCore::find_candidate() {
  candidate_.sequence = nullptr;
  if (std::ssize(running_) >= limits_.max_running) return;
  candidate_.sequence = first_eligible();
  if (candidate_.sequence == nullptr) return;
  const Sequence& sequence = *candidate_.sequence;
  SchedulerState::Waiting& state = candidate_.state;
  state.known = sequence.known();
  state.cached = 0;
  state.locks.assign(state_.available.size(), 0);
  candidate_.match = {};
  if (!prefix_ || wants_prompt_logprobs(sequence)) return;
  candidate_.tokens.clear();
  sequence.append_tokens(0, state.known, candidate_.tokens);
  candidate_.match = prefix_->match(sequence.request->request.cache_key, candidate_.tokens);
  state.cached = candidate_.match.length;
  for (size_t g = 0; g < state.locks.size(); ++g)
    state.locks[g] = prefix_->unlocked_pages(candidate_.match, static_cast<int32_t>(g));
}

void EngineCore::fill_state() {
  state_.running.clear();
  considered_.clear();
  int32_t decodes = 0;
  for (Sequence* sequence : running_) {
    if (ends_in_flight(*sequence)) continue;
    const int32_t known = sequence->known();
    state_.running.push_back(
        {sequence->computed, known, next_cut(*sequence), wants_prompt_logprobs(*sequence)});
    considered_.push_back(sequence);
    if (known - sequence->computed == 1) ++decodes;
  }
  state_.prefill_rows = costs_.prompt_rows(std::max(1, decodes), limits_.prefill_chunk);
  for (size_t g = 0; g < state_.available.size(); ++g)
    state_.available[g] = available(static_cast<int32_t>(g));
  state_.next = candidate_.sequence == nullptr ? nullptr : &candidate_.state;
}

void EngineCore::plan() {
  planned_.clear();
  state_.may_admit = true;
  for (const Sequence* sequence : running_) trim(*sequence);
  find_candidate();
  while (true) {
    fill_state();
    const StepPlan plan = schedule(state_, scheduler_limits_);
    switch (plan.kind) {
      case StepPlan::Kind::kIdle:
        return;
      case StepPlan::Kind::kAdmit:
        begin(*candidate_.sequence);
        find_candidate();
        break;
      case StepPlan::Kind::kPreempt:
        // What ends with the step under way gives its pages back before the next turn.
        if (considered_.size() < running_.size()) return;
        CHECK(running_.size() > 1, "one sequence does not fit: {} of {} tokens read",
              running_.back()->computed, running_.back()->known());
        preempt(*running_.back());
        state_.may_admit = false;  // it would come back at once
        candidate_.sequence = nullptr;
        break;
      case StepPlan::Kind::kRun:
        prepare(plan);
        return;
    }
  }
}

void EngineCore::begin(Sequence& sequence) {
  ActiveRequest& live = *sequence.request;
  const PrefixCache::Match& match = candidate_.match;
  const int32_t cached = match.length;
  sequence.branch = match.known > cached ? match.known : 0;
  sequence.slot = prefix_ ? prefix_->lock(live.request.cache_key, candidate_.tokens,
                                          std::move(candidate_.match))
                          : cache_->open();
  sequence.computed = cached;
  sequence.verified = cached;
  if (sequence.fresh()) live.leader = &sequence;
  waiting_.erase(&sequence);
  if (!live.begun) {
    live.begun = true;
    live.begun_at = parts_.now();
    live.cached_tokens = cached;
    const std::chrono::duration<double> waited = live.begun_at - live.request.submitted;
    meters_.queue_seconds.observe(waited.count());
    counters_.prompt_tokens += sequence.prompt_tokens();
    if (prefix_ && !wants_prompt_logprobs(sequence))
      counters_.queried_tokens += sequence.prompt_tokens();
    counters_.cached_tokens += cached;
    leave_queue(live);
  }
  start_sampling(sequence);
  add_running(sequence);
}

void EngineCore::start_sampling(Sequence& sequence) {
  if (sequence.sampler != nullptr) return;
  const Request& request = sequence.request->request;
  SamplingParams params = request.sampling;
  params.choice = sequence.choice();
  sequence.sampler =
      std::make_unique<Sampler>(std::move(params), request.never_ids, sampler_scratch_);
  sequence.sampler->see_prompt(request.prompt);
  if (request.make_guide) sequence.guide = request.make_guide(sequence.choice());
}

void EngineCore::add_running(Sequence& sequence) {
  sequence.state = Sequence::State::kRunning;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, ByRank()),
                  &sequence);
}

void EngineCore::preempt(Sequence& sequence) {
  ++counters_.preemptions;
  insert_prefix(sequence, sequence.verified);
  cache_->close(*sequence.slot);
  sequence.slot.reset();
  sequence.computed = 0;
  sequence.verified = 0;
  if (sequence.request->leader == &sequence) sequence.request->leader = nullptr;
  std::erase(running_, &sequence);
  sequence.state = Sequence::State::kWaiting;
  waiting_.insert(&sequence);
}

void EngineCore::prepare(const StepPlan& plan) {
  for (const StepPlan::Part& planned : plan.parts) {
    Sequence& sequence = *considered_[static_cast<size_t>(planned.sequence)];
    const SchedulerState::Running& state = state_.running[static_cast<size_t>(planned.sequence)];
    Part part;
    part.sequence = &sequence;
    part.begin = sequence.computed;
    part.end = part.begin + planned.rows;
    part.is_decode = state.known - part.begin == 1;
    part.samples = part.end == state.known;
    // At the end of a prompt, and on the way through a long one.
    part.snapshot = prefix_ && (part.end == state.cut || (part.samples && !part.is_decode));
    if (part.samples || part.snapshot) part.logits = LogitRows::kLast;
    if (state.all_logits) part.logits = LogitRows::kAll;
    // In every group as many, so that the largest need for room is this.
    make_room((part.end + options_.page_size - 1) / options_.page_size -
              (part.begin + options_.page_size - 1) / options_.page_size);
    CHECK(cache_->grow(*sequence.slot, planned.rows), "no pages for {} rows that were planned",
          planned.rows);
    sequence.computed = part.end;
    planned_.push_back(part);
  }
}

/// How the device draws what follows the part, if its last row is all that the choice depends on.
DrawSpec EngineCore::draw_of(const Part& part) const {
  const Sequence& sequence = *part.sequence;
  const ActiveRequest& live = *sequence.request;
  const bool forks = live.leader == &sequence && live.request.choices > 1;
  if (!part.samples || sequence.guide != nullptr || live.request.logprobs || forks) return {};
  return sequence.sampler->draw_spec(part.end, mask_of(sequence));
}

void EngineCore::fill_draws() {
  draws_.clear();
  for (const Part& part : flight_) {
    if (part.logit_rows() > 0) draws_.push_back(draw_of(part));
  }
  const bool any = std::ranges::any_of(draws_, [](const DrawSpec& draw) { return draw.top_k > 0; });
  if (!any) draws_.clear();
}

void EngineCore::launch() {
  // Nothing of a sequence that ended since is wanted.
  std::erase_if(planned_,
                [](const Part& part) { return part.sequence->state != Sequence::State::kRunning; });
  flight_ = std::exchange(planned_, {});
  if (flight_.empty()) return;
  tokens_.clear();
  for (const Part& part : flight_) part.sequence->append_tokens(part.begin, part.end, tokens_);
  std::vector<SequenceStep> steps;
  std::span<const int32_t> ids = tokens_;
  for (const Part& part : flight_) {
    const auto rows = static_cast<size_t>(part.end - part.begin);
    steps.push_back({*part.sequence->slot, ids.first(rows), part.logits});
    ids = ids.subspan(rows);
  }
  batch_.build(*cache_, steps);
  for (const Part& part : flight_) {
    cache_->advance(*part.sequence->slot, part.end - part.begin);
    part.sequence->token_in_flight = part.samples;
  }
  ++counters_.steps;
  Step step = batch_.step(nullptr);
  step.top_only = std::none_of(flight_.begin(), flight_.end(),
                               [](const Part& part) { return part.logits == LogitRows::kAll; });
  if (step.top_only) {
    fill_draws();
    step.draws = draws_;
  }
  parts_.runner.launch(step);
  in_flight_ = true;
}

}  // namespace facet
