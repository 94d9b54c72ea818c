#include "tests/property/engine_simulation.h"

#include <algorithm>
#include <numeric>

namespace facet::test {
namespace {

constexpr int32_t kVocab = 32;
constexpr int32_t kMaxRequests = 7;

/// Deterministic, so that the expected answer can be had from another instance of it.
class SimulatedGuide final : public TokenGuide {
 public:
  SimulatedGuide(int32_t kind, int32_t choice) : kind_(kind), choice_(choice) {}

  Rule next() override {
    EXPECT_FALSE(asked_) << "asked twice for one token";
    asked_ = true;
    if (kind_ == 1 && taken_ < 3) return {Rule::Kind::kForced, (taken_ * 5 + choice_) % kVocab, {}};
    if (kind_ == 2) {
      allowed_ = taken_ % 2 == 0 ? 0x5555555555555555 : 0xF0F0F0F0F0F0F0F0;
      return {Rule::Kind::kOnly, -1, {&allowed_, 1}};
    }
    return {};
  }
  void accept(int32_t /*id*/) override {
    EXPECT_TRUE(asked_);
    asked_ = false;
    ++taken_;
  }

 private:
  const int32_t kind_;
  const int32_t choice_;
  int32_t taken_ = 0;
  bool asked_ = false;
  uint64_t allowed_ = 0;
};

struct Expected {
  std::vector<int32_t> ids;
  std::vector<TokenLogprob> logprobs;
  FinishReason finish = FinishReason::kLength;
};

/// The answer of a choice by the rules of the interface, from the oracle's logits alone.
Expected expected_answer(const Request& request, int32_t guided, int32_t choice, int32_t window) {
  Expected expected;
  HashOracle oracle(kVocab, window);
  for (const int32_t id : request.prompt) oracle.read(id);
  SamplingParams params = request.sampling;
  params.choice = choice;
  Sampler sampler(params, request.never_ids);
  sampler.see_prompt(request.prompt);
  SimulatedGuide guide(guided, choice);
  while (std::ssize(expected.ids) < request.max_tokens) {
    std::vector<float> logits = oracle.logits();
    const std::vector<float> raw = logits;
    const TokenGuide::Rule rule = guide.next();
    TokenMask mask;
    if (std::ssize(expected.ids) < request.min_tokens) mask.banned = request.end_ids;
    mask.allowed = rule.allowed;
    const auto position = static_cast<int64_t>(request.prompt.size() + expected.ids.size());
    const int32_t id = rule.kind == TokenGuide::Rule::Kind::kForced
                           ? rule.forced
                           : sampler.sample(logits, position, mask);
    guide.accept(id);
    if (id < 0) {
      expected.finish = FinishReason::kError;
      return expected;
    }
    if (request.logprobs) expected.logprobs.push_back(token_logprob(raw, id, *request.logprobs));
    expected.ids.push_back(id);
    sampler.see_output(id);
    oracle.read(id);
    if (std::count(request.end_ids.begin(), request.end_ids.end(), id) > 0) {
      expected.finish = FinishReason::kEndToken;
      return expected;
    }
  }
  return expected;
}

template <typename T>
bool begins_with(const std::vector<T>& whole, const std::vector<T>& start) {
  return start.size() <= whole.size() && std::equal(start.begin(), start.end(), whole.begin());
}

int32_t common_length(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int32_t>(at - a.begin());
}

}  // namespace

SimulatedModel::SimulatedModel(int32_t its_window)
    : window(its_window),
      model(make_fake_model(backend, {.vocab_size = kVocab, .window = its_window})) {}

EngineSimulation::EngineSimulation(uint64_t seed, SimulatedModel& model)
    : seed_(seed), model_(model), random_(seed), runner_(*model.model, clock_) {
  draw_options();
  core_ = std::make_unique<EngineCore>(
      EngineParts{*model_.model, host_allocator(), runner_, [this] { return clock_.now(); }},
      options_);
}

int32_t EngineSimulation::draw(int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(random_);
}

void EngineSimulation::draw_options() {
  options_.kv_dtype = DType::kF32;
  options_.page_size = draw(1, 5);
  options_.max_running = draw(1, 5);
  options_.prefill_chunk = draw(1, 12);
  options_.snapshot_positions = draw(2, 12);
  options_.prefix_caching = chance(0.8) ? PrefixCaching::kOn : PrefixCaching::kOff;
  options_.schedule = chance(0.5) ? ScheduleOrder::kFcfs : ScheduleOrder::kPriority;
  // From barely one sequence of some twenty tokens to plenty.
  const int32_t sliding =
      (model_.window + options_.prefill_chunk + 2 * options_.page_size) / options_.page_size + 2;
  const int32_t full = 24 / options_.page_size + 1;
  options_.pages = {sliding + draw(0, sliding * 3), full + draw(0, full * 3)};
  model_.backend.latency = {&clock_, 1e-3, 2e-4, 0.5, seed_};
}

std::vector<int32_t> EngineSimulation::draw_prompt() {
  const int32_t most = core_->limits().max_model_len - 1;
  std::vector<int32_t> prompt;
  if (!sent_.empty() && chance(0.6)) {
    // A conversation that goes on, or parts anywhere from an earlier one.
    const Sent& before =
        sent_[static_cast<size_t>(draw(0, static_cast<int32_t>(sent_.size()) - 1))];
    prompt = before.request.prompt;
    const std::vector<int32_t>& answer = before.ledger->choices.front().ids;
    prompt.insert(prompt.end(), answer.begin(), answer.end());
    prompt.resize(static_cast<size_t>(draw(1, static_cast<int32_t>(prompt.size()))));
  }
  const int32_t added = draw(prompt.empty() ? 1 : 0, 20);
  for (int32_t i = 0; i < added; ++i) prompt.push_back(draw(0, kVocab - 1));
  prompt.resize(std::min(prompt.size(), static_cast<size_t>(most)));
  return prompt;
}

void EngineSimulation::send() {
  Sent sent;
  Request& request = sent.request;
  request.prompt = draw_prompt();
  const int32_t room = core_->limits().max_model_len - static_cast<int32_t>(request.prompt.size());
  request.max_tokens = std::min(draw(0, 14), room);
  request.min_tokens = draw(0, std::min(3, request.max_tokens));
  request.choices = chance(0.3) ? draw(2, 4) : 1;
  request.sampling.temperature = chance(0.3) ? 0.0F : 1.0F;
  request.sampling.top_k = chance(0.3) ? 5 : 0;
  request.sampling.repetition_penalty = chance(0.3) ? 1.3F : 1.0F;
  request.sampling.frequency_penalty = chance(0.3) ? 0.5F : 0.0F;
  request.sampling.seed = random_();
  if (chance(0.5)) request.end_ids = {draw(0, kVocab - 1), draw(0, kVocab - 1)};
  if (chance(0.3)) request.never_ids = {draw(0, kVocab - 1)};
  if (chance(0.3)) request.logprobs = draw(0, 3);
  if (chance(0.1)) request.prompt_logprobs = draw(0, 3);
  request.cache_key = chance(0.8) ? "" : "other";
  request.priority = draw(-2, 2);
  if (chance(0.1)) request.deadline = clock_.now() + std::chrono::milliseconds(draw(0, 100));
  if (chance(0.1)) request.queue_deadline = clock_.now() + std::chrono::milliseconds(draw(0, 50));
  sent.timed = request.deadline || request.queue_deadline;
  sent.guided = chance(0.2) ? draw(1, 2) : 0;
  if (sent.guided > 0) {
    request.make_guide = [kind = sent.guided](int32_t choice) {
      return std::make_unique<SimulatedGuide>(kind, choice);
    };
  }
  sent.ledger = std::make_shared<Ledger>(request.choices);
  sent.choice_cancelled.resize(static_cast<size_t>(request.choices));
  sent.handle = static_cast<RequestHandle>(sent_.size() + 1);
  Request submitted = request;
  submitted.sink = sent.ledger;
  check_request(submitted, kVocab);
  work_ += (std::ssize(request.prompt) + request.max_tokens) * request.choices;
  sent_.push_back(std::move(sent));
  core_->submit(sent_.back().handle, std::move(submitted));
}

void EngineSimulation::cancel_some() {
  if (sent_.empty() || !chance(0.03)) return;
  Sent& sent = sent_[static_cast<size_t>(draw(0, static_cast<int32_t>(sent_.size()) - 1))];
  if (chance(0.5)) {
    sent.cancelled = true;
    core_->cancel(sent.handle);
  } else {
    const int32_t choice = draw(0, sent.request.choices - 1);
    sent.choice_cancelled[static_cast<size_t>(choice)] = true;
    core_->cancel(sent.handle, choice);
  }
}

void EngineSimulation::check_turn() {
  core_->check_integrity();
  for (const Sent& sent : sent_) {
    // Within one turn.
    if (sent.cancelled) ASSERT_TRUE(sent.ledger->done()) << "cancelled, and goes on";
  }
}

void EngineSimulation::run() {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  const int32_t requests = draw(1, kMaxRequests);
  int64_t turns = 0;
  while (std::ssize(sent_) < requests || !core_->idle()) {
    while (std::ssize(sent_) < requests && (core_->idle() || chance(0.15))) send();
    cancel_some();
    core_->turn();
    check_turn();
    if (testing::Test::HasFailure()) return;
    // Every turn but one reads a token at least; what is lost to preemptions is read again, the
    // first in rank never.
    ASSERT_LT(++turns, 40 + 8 * work_) << "no progress";
  }
  const EngineStatus status = core_->status();
  for (const EngineStatus::Group& group : status.groups)
    EXPECT_EQ(group.free + group.cached, group.pages) << "pages that nobody holds are lost";
  EXPECT_EQ(status.finished, requests);
  check_answers();
  EXPECT_TRUE(core_->flush_prefix_cache());
  for (const EngineStatus::Group& group : core_->status().groups)
    EXPECT_EQ(group.free, group.pages);
  totals_.turns = turns;
  totals_.requests = requests;
  totals_.preemptions = status.preemptions;
  totals_.cached_tokens = status.cached_tokens;
  totals_.aborted = status.aborted;
  totals_.generated = status.generated_tokens;
}

int32_t EngineSimulation::longest_known_prefix(size_t sent) const {
  const Sent& mine = sent_[sent];
  int32_t longest = 0;
  for (size_t other = 0; other < sent_.size(); ++other) {
    const Sent& theirs = sent_[other];
    if (other == sent || theirs.request.cache_key != mine.request.cache_key) continue;
    for (const Ledger::Choice& choice : theirs.ledger->choices) {
      std::vector<int32_t> tokens = theirs.request.prompt;
      tokens.insert(tokens.end(), choice.ids.begin(), choice.ids.end());
      longest = std::max(longest, common_length(tokens, mine.request.prompt));
    }
  }
  return longest;
}

void EngineSimulation::check_answers() {
  for (size_t i = 0; i < sent_.size(); ++i) {
    const Sent& sent = sent_[i];
    const int32_t cached = sent.ledger->cached_tokens;
    EXPECT_TRUE(sent.ledger->done());
    EXPECT_LT(cached, std::ssize(sent.request.prompt));
    if (cached > 0) {
      EXPECT_EQ(options_.prefix_caching, PrefixCaching::kOn);
      EXPECT_LE(cached, longest_known_prefix(i)) << "pages of another key, or of nobody";
    }
    check_answer(sent);
  }
}

void EngineSimulation::check_answer(const Sent& sent) {
  for (int32_t c = 0; c < sent.request.choices; ++c) {
    const Ledger::Choice& found = sent.ledger->choices[static_cast<size_t>(c)];
    const Expected expected = expected_answer(sent.request, sent.guided, c, model_.window);
    const bool may_abort = sent.cancelled || sent.choice_cancelled[static_cast<size_t>(c)];
    if (found.finish == FinishReason::kAborted || found.finish == FinishReason::kTimeout) {
      EXPECT_TRUE(found.finish == FinishReason::kAborted ? may_abort : sent.timed);
      if (found.finish == FinishReason::kTimeout) ++totals_.timeouts;
      EXPECT_TRUE(begins_with(expected.ids, found.ids)) << "choice " << c;
      EXPECT_TRUE(begins_with(expected.logprobs, found.logprobs)) << "choice " << c;
      continue;
    }
    EXPECT_EQ(found.finish, expected.finish) << "choice " << c << ": " << found.error;
    EXPECT_EQ(found.ids, expected.ids) << "choice " << c;
    EXPECT_TRUE(found.logprobs == expected.logprobs) << "choice " << c;
  }
  const std::vector<std::optional<TokenLogprob>>& of_prompt = sent.ledger->prompt_logprobs;
  if (of_prompt.empty()) return;
  ASSERT_EQ(of_prompt.size(), sent.request.prompt.size());
  EXPECT_FALSE(of_prompt.front());
  HashOracle oracle(kVocab, model_.window);
  for (size_t i = 0; i + 1 < of_prompt.size(); ++i) {
    oracle.read(sent.request.prompt[i]);
    EXPECT_TRUE(of_prompt[i + 1] == token_logprob(oracle.logits(), sent.request.prompt[i + 1],
                                                  *sent.request.prompt_logprobs));
  }
}

}  // namespace facet::test
