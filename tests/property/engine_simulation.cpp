#include "tests/property/engine_simulation.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tests/property/expected_answer.h"

namespace facet::test {
namespace {

constexpr int32_t kMaxRequests = 7;
constexpr const char* kNotFinite = "the model's logits are not finite numbers";

/// So few values that pages of unequal tokens often share one.
uint64_t narrow_hash(uint64_t parent_id, std::span<const int32_t> tokens) {
  return hash_page(parent_id, tokens) % 3;
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
      EngineParts{*model_.model, host_allocator(), runner_, [this] { return clock_.now(); },
                  chance(0.5) ? narrow_hash : hash_page},
      options_);
  watch_.set_order(options_.schedule);
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
  only_prompts_ = chance(0.1);
  const int32_t plenty = chance(0.5) ? 3 : 1;
  options_.pages = {sliding + draw(0, sliding * plenty), full + draw(0, full * plenty)};
  draw_faults();
}

void EngineSimulation::draw_faults() {
  HashBackend::Faults faults;
  faults.seed = seed_;
  flaky_ = chance(0.25);
  if (flaky_ && chance(0.4)) {
    faults.flaky_rows = chance(0.5) ? 0.1 : 0.01;
  } else if (flaky_) {
    // Only in steps during which somebody loses his pages.
    runner_.before_step([this] {
      const int64_t before = std::exchange(preemptions_, core_->status().preemptions);
      model_.backend.faults.flaky_rows = preemptions_ > before ? 0.5 : 0;
    });
  } else if (chance(0.05)) {
    faults.throwing_step = draw(0, 60);
  }
  model_.backend.restart({&clock_, 1e-3, 2e-4, 0.5, seed_}, faults);
  model_.backend.keeps_logits = chance(0.5);
  model_.backend.draws_tokens = chance(0.5);
}

std::vector<int32_t> EngineSimulation::draw_prompt() {
  const int32_t most = core_->limits().max_model_len - 1;
  std::vector<int32_t> prompt;
  if (!sent_.empty() && chance(0.6)) {
    // A conversation that goes on, or parts anywhere from an earlier one.
    const SimulatedRequest& before =
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

Request EngineSimulation::draw_request() {
  Request request;
  request.prompt = draw_prompt();
  const int32_t room = core_->limits().max_model_len - static_cast<int32_t>(request.prompt.size());
  request.max_tokens = std::min(draw(0, only_prompts_ ? 1 : 14), room);
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
  return request;
}

void EngineSimulation::send(Request request, int32_t guided) {
  // Called when a choice begins, guided or not.
  request.make_guide = [this, guided, index = sent_.size()](int32_t choice) {
    watch_.begins(index, choice);
    return make_simulated_guide(guided, choice);
  };
  SimulatedRequest sent;
  sent.handle = static_cast<RequestHandle>(sent_.size() + 1);
  sent.request = request;
  sent.ledger = std::make_shared<Ledger>(request.choices);
  sent.came = clock_.now();
  sent.guided = guided;
  sent.probes = probes_;
  sent.choice_cancelled.resize(static_cast<size_t>(request.choices));
  request.sink = sent.ledger;
  check_request(request, kVocab);
  work_ += (std::ssize(request.prompt) + request.max_tokens) * request.choices;
  sent_.push_back(std::move(sent));
  core_->submit(sent_.back().handle, std::move(request));
}

/// Every conversation goes on, on what the prefix cache kept from a time of faults.
void EngineSimulation::send_probes() {
  runner_.before_step({});
  model_.backend.faults = {};
  probes_ = true;
  const auto most = static_cast<size_t>(core_->limits().max_model_len - 1);
  const size_t before = sent_.size();
  for (size_t i = 0; i < before; ++i) {
    for (const Ledger::Choice& choice : sent_[i].ledger->choices) {
      Request request;
      request.prompt = sent_[i].request.prompt;
      request.prompt.insert(request.prompt.end(), choice.ids.begin(), choice.ids.end());
      request.prompt.push_back(draw(0, kVocab - 1));
      request.prompt.resize(std::min(request.prompt.size(), most));
      request.max_tokens = 1;
      request.cache_key = sent_[i].request.cache_key;
      send(std::move(request), 0);
    }
  }
}

void EngineSimulation::cancel_some() {
  if (sent_.empty() || !chance(0.03)) return;
  SimulatedRequest& sent =
      sent_[static_cast<size_t>(draw(0, static_cast<int32_t>(sent_.size()) - 1))];
  if (chance(0.5)) {
    sent.cancelled = true;
    core_->cancel(sent.handle);
  } else {
    const int32_t choice = draw(0, sent.request.choices - 1);
    sent.choice_cancelled[static_cast<size_t>(choice)] = true;
    core_->cancel(sent.handle, choice);
  }
}

void EngineSimulation::turn() {
  watch_.before_turn();
  core_->turn();
  core_->check_integrity();
  const EngineStatus status = core_->status();
  core_->tell();
  watch_.after_turn(status);
  EXPECT_LE(runner_.sequences(), options_.max_running);
  const auto done = [](const SimulatedRequest& sent) { return sent.ledger->done(); };
  EXPECT_EQ(status.finished, std::count_if(sent_.begin(), sent_.end(), done));
  // Every turn but one reads a token at least; what is lost to preemptions is read again, the first
  // in rank never.
  EXPECT_LT(++turns_, 40 + 8 * work_) << "no progress";
}

void EngineSimulation::run() {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  const int32_t requests = draw(1, kMaxRequests);
  while (std::ssize(sent_) < requests || !core_->idle()) {
    while (std::ssize(sent_) < requests && (core_->idle() || chance(0.15)))
      send(draw_request(), chance(0.2) ? draw(1, 2) : 0);
    cancel_some();
    turn();
    if (testing::Test::HasFailure()) return;
  }
  if (flaky_) send_probes();
  while (!core_->idle() && !testing::Test::HasFailure()) turn();
  const EngineStatus status = core_->status();
  for (const EngineStatus::Group& group : status.groups)
    EXPECT_EQ(group.free + group.cached, group.pages) << "pages that nobody holds are lost";
  check_answers();
  // Who begins has room for the whole prompt.
  if (only_prompts_) EXPECT_EQ(status.preemptions, 0);
  EXPECT_TRUE(core_->flush_prefix_cache());
  for (const EngineStatus::Group& group : core_->status().groups)
    EXPECT_EQ(group.free, group.pages);
  totals_.turns = turns_;
  totals_.requests = std::ssize(sent_);
  totals_.failed = core_->failed() ? 1 : 0;
  totals_.preemptions = status.preemptions;
  totals_.cached_tokens = status.cached_tokens;
  totals_.aborted = status.aborted;
  totals_.generated = status.generated_tokens;
}

int32_t EngineSimulation::longest_known_prefix(size_t sent) const {
  const SimulatedRequest& mine = sent_[sent];
  int32_t longest = 0;
  for (size_t other = 0; other < sent_.size(); ++other) {
    const SimulatedRequest& theirs = sent_[other];
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
    const SimulatedRequest& sent = sent_[i];
    const int32_t cached = sent.ledger->cached_tokens;
    EXPECT_TRUE(sent.ledger->done());
    EXPECT_LT(cached, std::ssize(sent.request.prompt));
    if (cached > 0) {
      EXPECT_EQ(options_.prefix_caching, PrefixCaching::kOn);
      EXPECT_LE(cached, longest_known_prefix(i)) << "pages of another key, or of nobody";
    }
    check_answer(sent);
    check_prompt_logprobs(sent);
  }
  EXPECT_LE(totals_.not_finite, model_.backend.flaked) << "a fault reached a neighbour";
}

/// Whether something from outside ended the choice, which then must have happened.
bool EngineSimulation::cut_short(const SimulatedRequest& sent, size_t choice) {
  const Ledger::Choice& found = sent.ledger->choices[choice];
  if (found.finish == FinishReason::kAborted) {
    EXPECT_TRUE(sent.cancelled || sent.choice_cancelled[choice]);
    return true;
  }
  if (found.finish == FinishReason::kTimeout) {
    ++totals_.timeouts;
    return true;
  }
  if (found.error == kNotFinite) {
    EXPECT_FALSE(sent.probes) << "from the prefix cache";
    ++totals_.not_finite;
    return true;
  }
  return core_->failed() && found.error == "the engine failed: a planted fault";
}

void EngineSimulation::check_answer(const SimulatedRequest& sent) {
  for (int32_t c = 0; c < sent.request.choices; ++c) {
    const Ledger::Choice& found = sent.ledger->choices[static_cast<size_t>(c)];
    const ExpectedAnswer expected = expected_answer(sent.request, sent.guided, c, model_.window);
    if (cut_short(sent, static_cast<size_t>(c))) {
      EXPECT_TRUE(begins_with(expected.ids, found.ids)) << "choice " << c;
      EXPECT_TRUE(begins_with(expected.logprobs, found.logprobs)) << "choice " << c;
      continue;
    }
    EXPECT_EQ(found.finish, expected.finish) << "choice " << c << ": " << found.error;
    EXPECT_EQ(found.ids, expected.ids) << "choice " << c;
    EXPECT_TRUE(found.logprobs == expected.logprobs) << "choice " << c;
  }
}

void EngineSimulation::check_prompt_logprobs(const SimulatedRequest& sent) const {
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
