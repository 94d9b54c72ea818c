// EngineCore: what a step brought. Runs between two steps, so it does what the next one waits for
// and leaves the rest to settle().

#include <algorithm>

#include "base/log.h"
#include "engine/engine_core.h"

namespace facet {

void EngineCore::collect() {
  const StepOutcome outcome = parts_.runner.collect();
  in_flight_ = false;
  if (!outcome.error.empty()) {
    fail(outcome.error);
    return;
  }
  int32_t decodes = 0;
  int32_t prompt_rows = 0;
  int64_t row = 0;
  for (const Part& part : flight_) {
    if (part.is_decode) {
      ++decodes;
    } else {
      prompt_rows += part.end - part.begin;
    }
    const int64_t rows = part.logit_rows();
    part.sequence->token_in_flight = false;
    if (rows > 0 && part.sequence->state != Sequence::State::kEnded) take(part, outcome, row);
    row += rows;
  }
  costs_.observe(decodes, prompt_rows, outcome.seconds);
  meters_.step_tokens.observe(decodes + prompt_rows);
  meters_.step_seconds.observe(outcome.seconds);
  flight_.clear();
}

void EngineCore::take(const Part& part, const StepOutcome& outcome, int64_t first_row) {
  Sequence& sequence = *part.sequence;
  ActiveRequest& live = *sequence.request;
  const int64_t rows = part.logit_rows();
  RowLogits last(parts_.model, outcome, first_row + rows - 1);
  const bool all = part.logits == LogitRows::kAll;
  const std::span<const float> logits =
      all ? outcome.logits.slice_rows(first_row, rows).as<const float>() : std::span<const float>();
  if (all ? !all_finite(logits) : last.top() ? !last.top()->finite : !all_finite(last.all())) {
    end(sequence, FinishReason::kError, "the model's logits are not finite numbers");
    return;
  }
  if (all) take_prompt_logprobs(part, logits);
  // A sequence that lost its pages meanwhile keeps the token, not what was computed.
  if (sequence.state == Sequence::State::kRunning) {
    sequence.verified = part.end;
    if (part.snapshot) snapshots_.push_back(&sequence);
  }
  if (!part.samples) return;
  if (live.request.max_tokens == 0) {
    end_all(live, FinishReason::kLength);
  } else if (live.leader == &sequence) {
    take_first_tokens(sequence, last);
  } else {
    choose(sequence, last);
  }
}

void EngineCore::take_prompt_logprobs(const Part& part, std::span<const float> logits) {
  ActiveRequest& live = *part.sequence->request;
  const std::vector<int32_t>& prompt = live.request.prompt;
  const auto vocab = static_cast<size_t>(limits_.vocab_size);
  live.prompt_logprobs.resize(prompt.size());
  const auto end = std::min(static_cast<size_t>(part.end), prompt.size() - 1);
  for (auto at = static_cast<size_t>(part.begin); at < end; ++at) {
    const auto row = logits.subspan((at - static_cast<size_t>(part.begin)) * vocab, vocab);
    live.prompt_logprobs[at + 1] =
        token_logprob(row, prompt[at + 1], *live.request.prompt_logprobs);
  }
  live.prompt_logprobs_done = live.prompt_logprobs_done || part.samples;
}

void EngineCore::take_first_tokens(Sequence& leader, RowLogits& logits) {
  ActiveRequest& live = *leader.request;
  live.leader = nullptr;
  // Equal pages of others take the place of its own before they are shared: a sequence holds all
  // pages of a path in the prefix cache or none.
  if (live.request.choices > 1) insert_prefix(leader, leader.verified);
  std::vector<Sequence*> forked = {&leader};
  while (live.request.choices > 1) {
    Sequence* next = fork_next(leader);
    if (next == nullptr) break;
    forked.push_back(next);
  }
  if (forked.size() == 1) return choose(leader, logits);
  const std::span<float> all = logits.all();
  const std::vector<float> kept(all.begin(), all.end());
  for (Sequence* sequence : forked) {
    std::copy(kept.begin(), kept.end(), all.begin());
    choose(*sequence, logits);
  }
}

/// The next choice of the leader's request takes the prompt's pages, if it is the first that waits
/// and there is room for it and for every running sequence to grow.
Sequence* EngineCore::fork_next(const Sequence& leader) {
  Sequence* next = first_eligible();
  if (next == nullptr || next->request != leader.request || !next->fresh()) return nullptr;
  const auto running = static_cast<int32_t>(running_.size());
  if (running >= limits_.max_running) return nullptr;
  for (int32_t g = 0; g < cache_->group_count(); ++g) {
    if (available(g) < running + 2) return nullptr;
  }
  make_room(1);
  next->slot = cache_->fork(*leader.slot, leader.verified);
  if (!next->slot) return nullptr;
  next->computed = leader.verified;
  next->verified = leader.verified;
  waiting_.erase(next);
  start_sampling(*next);
  add_running(*next);
  return next;
}

/// What may not be sampled, a guide apart.
TokenMask EngineCore::mask_of(const Sequence& sequence) const {
  const Request& request = sequence.request->request;
  TokenMask mask;
  if (std::ssize(sequence.output) < request.min_tokens) mask.banned = request.end_ids;
  return mask;
}

int32_t EngineCore::sample(Sequence& sequence, RowLogits& logits, const TokenMask& mask) {
  if (logits.drawn() >= 0) return logits.drawn();
  Sampler& sampler = *sequence.sampler;
  if (logits.top() != nullptr) {
    const auto id = sampler.sample_top(logits.top()->entries, sequence.known(), mask);
    if (id) return *id;
  }
  return sampler.sample(logits.all(), sequence.known(), mask);
}

void EngineCore::choose(Sequence& sequence, RowLogits& logits) {
  ActiveRequest& live = *sequence.request;
  const Request& request = live.request;
  using Kind = TokenGuide::Rule::Kind;
  const TokenGuide::Rule rule =
      sequence.guide == nullptr ? TokenGuide::Rule{} : sequence.guide->next();
  if (request.logprobs) logits_.assign(logits.all().begin(), logits.all().end());
  const auto taken = static_cast<int32_t>(sequence.output.size());
  TokenMask mask = mask_of(sequence);
  if (rule.kind == Kind::kOnly) mask.allowed = rule.allowed;
  const int32_t id = rule.kind == Kind::kForced ? rule.forced : sample(sequence, logits, mask);
  if (id < 0 || id >= limits_.vocab_size) {
    end(sequence, FinishReason::kError, "no token may be sampled");
    return;
  }
  TokenEvent event = {.choice = sequence.choice(), .id = id};
  if (request.logprobs) event.logprob = token_logprob(logits_, id, *request.logprobs);
  note_event(live, std::move(event));
  ++counters_.generated_tokens;
  sequence.output.push_back(id);
  sequence.sampler->see_output(id);
  if (sequence.guide != nullptr) sequence.guide->accept(id);
  if (std::find(request.end_ids.begin(), request.end_ids.end(), id) != request.end_ids.end()) {
    end(sequence, FinishReason::kEndToken);
  } else if (taken + 1 == request.max_tokens) {
    end(sequence, FinishReason::kLength);
  }
}

void EngineCore::fail(const std::string& message) {
  log_error("engine", "a step failed: {}", message);
  failure_ = "the engine failed: " + message;
  planned_.clear();
  for (const auto& [handle, live] : requests_) end_all(*live, FinishReason::kError, failure_);
}

}  // namespace facet
