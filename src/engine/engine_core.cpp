#include "engine/engine_core.h"

#include <algorithm>
#include <fmt/core.h>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/page_plan.h"

namespace facet {
namespace {

/// What one unit of priority is worth in waiting. Because a request gains on all that come later,
/// none waits for ever.
constexpr std::chrono::nanoseconds kPriorityUnit = std::chrono::seconds(10);

/// Bytes of free pages in each KV group that have memory, so that no step waits for some: from the
/// start on, once the engine was idle for a moment, and at any time. All of the cache would be more
/// than most servers ever use.
constexpr int64_t kAheadAtStart = 32 << 20;
constexpr int64_t kAheadWhenIdle = 128 << 20;
constexpr int64_t kAheadAlways = 16 << 20;

template <typename T>
void require(bool ok, const char* field, T found, const std::string& wanted) {
  if (ok) return;
  throw Error(ErrorCode::kBadInput, fmt::format("{}: found {}, wanted {}", field, found, wanted));
}

void require_option(bool ok, const char* option, int64_t found, const char* wanted) {
  if (!ok)
    throw Error(ErrorCode::kUsage, fmt::format("{}: found {}, wanted {}", option, found, wanted));
}

void check_options(const EngineOptions& options) {
  require_option(options.page_size > 0, "page size", options.page_size, "1 or more");
  require_option(options.max_model_len >= 0, "max model length", options.max_model_len,
                 "0 or more");
  require_option(options.max_running > 0, "max running", options.max_running, "1 or more");
  require_option(options.max_queue >= 0, "max queue", options.max_queue, "0 or more");
  require_option(options.max_queue_tokens >= 0, "max queue tokens", options.max_queue_tokens,
                 "0 or more");
  require_option(options.prefill_chunk > 0, "prefill chunk", options.prefill_chunk, "1 or more");
  require_option(options.unnoticed_ms >= 0, "unnoticed milliseconds", options.unnoticed_ms,
                 "0 or more");
  require_option(options.snapshot_positions > 0, "snapshot positions", options.snapshot_positions,
                 "1 or more");
}

}  // namespace

void check_request(const Request& request, int32_t vocab_size) {
  const auto check_ids = [&](const std::vector<int32_t>& ids, const char* field) {
    for (const int32_t id : ids)
      require(id >= 0 && id < vocab_size, field, id, fmt::format("0 to {}", vocab_size - 1));
  };
  require(!request.prompt.empty(), "prompt", 0, "at least one id");
  check_ids(request.prompt, "prompt");
  check_ids(request.end_ids, "end_ids");
  check_ids(request.never_ids, "never_ids");
  require(request.choices >= 1 && request.choices <= 128, "choices", request.choices, "1 to 128");
  require(request.max_tokens >= 0, "max_tokens", request.max_tokens, "0 or more");
  require(request.min_tokens >= 0 && request.min_tokens <= request.max_tokens, "min_tokens",
          request.min_tokens, fmt::format("0 to max_tokens, {}", request.max_tokens));
  const int32_t top = request.logprobs.value_or(0);
  require(top >= 0 && top <= 20, "logprobs", top, "0 to 20");
  const int32_t prompt_top = request.prompt_logprobs.value_or(0);
  require(prompt_top >= 0 && prompt_top <= 20, "prompt_logprobs", prompt_top, "0 to 20");
  require(request.sink != nullptr, "sink", "none", "one");
  request.sampling.validate();
}

EngineCore::EngineCore(EngineParts parts, const EngineOptions& options)
    : parts_(std::move(parts)), options_(options), costs_(options.unnoticed_ms / 1000.0) {
  check_options(options);
  const std::vector<KvGroupSpec> groups =
      parts_.model.kv_groups(options.page_size, options.kv_dtype);
  const int32_t most = parts_.model.max_positions();
  PageNeeds needs;
  needs.max_model_len = options.max_model_len == 0 ? most : std::min(options.max_model_len, most);
  needs.max_running =
      std::min({options.max_running, parts_.model.max_rows(), parts_.model.max_logit_rows()});
  needs.step_rows = std::min(options.prefill_chunk, parts_.model.max_rows());
  // The prefix cache gets the windows at the last border of pages and at the one before it.
  if (options.prefix_caching == PrefixCaching::kOn) needs.lag = 2 * options.page_size - 1;
  std::vector<int32_t> pages = options.pages;
  if (pages.empty()) pages = plan_pages(groups, options.kv_bytes, needs);
  needs.max_model_len = longest_sequence(groups, pages, needs);
  if (needs.max_model_len < 2)
    throw Error(ErrorCode::kOutOfMemory, "the pages for keys and values hold no sequence");
  limits_ = {needs.max_model_len,      needs.max_running,         options.max_queue,
             options.max_queue_tokens, parts_.model.vocab_size(), needs.step_rows};
  scheduler_limits_ = {parts_.model.max_rows(), parts_.model.max_logit_rows(),
                       needs.max_running,       needs.step_rows,
                       options.page_size,       {}};
  for (const KvGroupSpec& group : groups)
    scheduler_limits_.most_pages.push_back(pages_of_sequence(group, needs.max_model_len, needs));
  cache_ = std::make_unique<KvCache>(groups, pages, parts_.allocator);
  cache_->populate_ahead(kAheadAtStart, std::numeric_limits<int32_t>::max());
  if (options.prefix_caching == PrefixCaching::kOn) prefix_.emplace(*cache_, parts_.page_hash);
  state_.available.resize(groups.size());
  counters_.last_step = parts_.now();
}

EngineCore::~EngineCore() {
  abort_all();
  tell();
}

void EngineCore::submit(RequestHandle handle, Request request) {
  auto owned = std::make_unique<ActiveRequest>();
  ActiveRequest& live = *owned;
  live.request = std::move(request);
  live.handle = handle;
  if (live.request.submitted == std::chrono::steady_clock::time_point()) {
    live.request.submitted = parts_.now();
  }
  live.open_choices = live.request.choices;
  requests_.emplace(handle, std::move(owned));
  ++waiting_requests_;
  waiting_tokens_ += std::ssize(live.request.prompt);
  int64_t key = 0;
  if (options_.schedule == ScheduleOrder::kPriority) {
    const auto came = std::chrono::nanoseconds(parts_.now().time_since_epoch());
    key = (came + live.request.priority * kPriorityUnit).count();
  }
  for (int32_t choice = 0; choice < live.request.choices; ++choice) {
    live.choices.push_back(std::make_unique<Sequence>(live, Rank{key, handle, choice}));
    waiting_.insert(live.choices.back().get());
  }
  for (const auto& deadline : {live.request.queue_deadline, live.request.deadline}) {
    if (deadline) deadlines_.emplace(*deadline, handle);
  }
  if (failed()) end_all(live, FinishReason::kError, failure_);
}

void EngineCore::cancel(RequestHandle handle, std::optional<int32_t> choice) {
  const auto found = requests_.find(handle);
  if (found == requests_.end()) return;
  ActiveRequest& live = *found->second;
  if (!choice) {
    end_all(live, FinishReason::kAborted);
  } else if (*choice >= 0 && *choice < std::ssize(live.choices)) {
    end(*live.choices[static_cast<size_t>(*choice)], FinishReason::kAborted);
  }
}

void EngineCore::abort_all() {
  if (in_flight_) parts_.runner.collect();
  in_flight_ = false;
  for (const auto& [handle, live] : requests_) end_all(*live, FinishReason::kAborted);
  settle();
}

void EngineCore::end_all(ActiveRequest& request, FinishReason reason, const std::string& error) {
  for (const auto& sequence : request.choices) end(*sequence, reason, error);
}

void EngineCore::end(Sequence& sequence, FinishReason reason, std::string error) {
  if (sequence.state == Sequence::State::kEnded) return;
  ActiveRequest& live = *sequence.request;
  const bool same_event = !live.events.empty() && live.events.back().choice == sequence.choice();
  if (!same_event) note_event(live, {.choice = sequence.choice()});
  live.events.back().finish = reason;
  live.events.back().error = std::move(error);
  if (sequence.state == Sequence::State::kRunning) {
    std::erase(running_, &sequence);
    retired_.push_back(&sequence);
    // What is not a number, or came after a fault, is kept from others.
    if (reason == FinishReason::kError) sequence.verified = 0;
  } else {
    waiting_.erase(&sequence);
  }
  sequence.state = Sequence::State::kEnded;
  sequence.sampler.reset();
  sequence.guide.reset();
  if (live.leader == &sequence) live.leader = nullptr;
  live.aborted = reason == FinishReason::kAborted;
  if (--live.open_choices == 0 && !live.begun) leave_queue(live);
}

void EngineCore::leave_queue(ActiveRequest& request) {
  --waiting_requests_;
  waiting_tokens_ -= std::ssize(request.request.prompt);
}

void EngineCore::note_event(ActiveRequest& request, TokenEvent event) {
  if (!std::exchange(request.has_news, true)) news_.push_back(&request);
  request.events.push_back(std::move(event));
}

void EngineCore::expire() {
  if (deadlines_.empty()) return;
  const auto now = parts_.now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto found = requests_.find(deadlines_.begin()->second);
    deadlines_.erase(deadlines_.begin());
    if (found == requests_.end()) continue;
    ActiveRequest& live = *found->second;
    const auto passed = [&](const auto& deadline) { return deadline && *deadline <= now; };
    if (passed(live.request.deadline) || (!live.begun && passed(live.request.queue_deadline)))
      end_all(live, FinishReason::kTimeout);
  }
}

std::optional<std::chrono::steady_clock::time_point> EngineCore::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

void EngineCore::turn() {
  expire();
  release_retired();
  if (!failed()) {
    plan();
    cache_->populate_ahead(kAheadAlways, 1);
  }
  if (in_flight_) collect();
  launch();
  settle();
  counters_.last_step = parts_.now();
}

void EngineCore::insert_prefix(const Sequence& sequence, int32_t length) {
  if (!prefix_ || length == 0) return;
  tokens_.clear();
  sequence.append_tokens(0, length, tokens_);
  prefix_->insert(sequence.request->request.cache_key, tokens_, *sequence.slot);
}

void EngineCore::settle() {
  for (const Sequence* sequence : snapshots_) {
    if (sequence->state == Sequence::State::kRunning) insert_prefix(*sequence, sequence->verified);
  }
  snapshots_.clear();
  release_retired();
  CHECK(ended_.empty(), "{} requests ended and were not told", ended_.size());
  for (ActiveRequest* request : news_) {
    if (request->open_choices == 0) retire(*request);
  }
}

void EngineCore::release_retired() {
  for (Sequence* sequence : retired_) {
    insert_prefix(*sequence, sequence->verified);
    cache_->close(*sequence->slot);
    sequence->slot.reset();
  }
  retired_.clear();
}

void EngineCore::tell() {
  for (ActiveRequest* request : std::exchange(news_, {})) tell(*request);
  ended_.clear();
}

/// Observes what the news of a request, which its sink has not heard yet, put an end to.
void EngineCore::measure(ActiveRequest& request) {
  const bool ends = request.open_choices == 0;
  if (!request.begun || (request.started && !ends)) return;
  const auto now = parts_.now();
  const auto seconds = [](auto time) { return std::chrono::duration<double>(time).count(); };
  if (!request.started) {
    const bool read = std::any_of(
        request.events.begin(), request.events.end(),
        [](const TokenEvent& one) { return one.id >= 0 || one.finish == FinishReason::kLength; });
    if (!read) return;  // it ended while the prompt was computed
    request.first_token_at = now;
    meters_.prefill_seconds.observe(seconds(now - request.begun_at));
  }
  if (ends && request.first_token_at)
    meters_.decode_seconds.observe(seconds(now - *request.first_token_at));
}

void EngineCore::tell(ActiveRequest& request) {
  request.has_news = false;
  std::stable_sort(request.events.begin(), request.events.end(),
                   [](const TokenEvent& a, const TokenEvent& b) { return a.choice < b.choice; });
  measure(request);
  TokenSink& sink = *request.request.sink;
  if (!std::exchange(request.started, true)) {
    if (!request.prompt_logprobs_done) request.prompt_logprobs.clear();
    sink.on_start(request.cached_tokens, std::move(request.prompt_logprobs));
  }
  // Told once, also if the sink throws.
  std::vector<TokenEvent> events;
  events.swap(request.events);
  sink.on_tokens(events);
  events.clear();
  events.swap(request.events);  // keeps its memory
}

void EngineCore::give_up() {
  gave_up_ = true;
  if (failure_.empty()) failure_ = "out of memory";  // short enough to need none
  planned_.clear();
  flight_.clear();
  running_.clear();
  waiting_.clear();
  deadlines_.clear();
  retired_.clear();
  snapshots_.clear();
  news_.clear();
  waiting_requests_ = 0;
  waiting_tokens_ = 0;
  for (const auto& [handle, live] : requests_) tell_failure(*live);
  for (const auto& live : ended_) {
    if (live != nullptr) tell_failure(*live);
  }
  requests_.clear();
  ended_.clear();
}

/// Must not throw: who is not told here has lost the thread of it anyway.
void EngineCore::tell_failure(ActiveRequest& request) {
  try {
    for (int32_t choice = 0; choice < request.request.choices; ++choice) {
      const bool known = choice < std::ssize(request.choices);
      if (known && request.choices[static_cast<size_t>(choice)]->state == Sequence::State::kEnded)
        continue;
      request.events.push_back(
          {.choice = choice, .finish = FinishReason::kError, .error = failure_});
    }
    if (!request.events.empty()) tell(request);
  } catch (const std::exception& error) {
    log_error("engine", "a request is not told of its end: {}", error.what());
  }
}

void EngineCore::retire(ActiveRequest& request) {
  ++counters_.finished;
  if (request.aborted) ++counters_.aborted;
  for (const auto& deadline : {request.request.queue_deadline, request.request.deadline}) {
    if (!deadline) continue;
    const auto [begin, end] = deadlines_.equal_range(*deadline);
    const auto found =
        std::find_if(begin, end, [&](const auto& entry) { return entry.second == request.handle; });
    if (found != end) deadlines_.erase(found);
  }
  ended_.push_back(std::move(requests_.extract(request.handle).mapped()));
}

bool EngineCore::rest() {
  if (gave_up_) return false;
  constexpr int32_t kPages = 16;  // a few milliseconds' worth
  return cache_->populate_ahead(kAheadWhenIdle, kPages);
}

bool EngineCore::flush_prefix_cache() {
  if (!idle()) return false;
  if (prefix_) prefix_->clear();
  return true;
}

EngineStatus EngineCore::status() const {
  EngineStatus status = counters_;
  status.waiting = waiting_requests_;
  status.running = static_cast<int32_t>(requests_.size()) - waiting_requests_;
  status.failed = failed();
  for (int32_t g = 0; g < cache_->group_count(); ++g) {
    const PageAllocator& pages = cache_->pages(g);
    const int32_t window = cache_->groups()[static_cast<size_t>(g)].window;
    status.groups.push_back({pages.count(), pages.free_pages(), pages.cached_alone(), window});
  }
  return status;
}

void EngineCore::check_integrity() const {
  if (gave_up_) return;
  cache_->check_integrity();
  if (prefix_) prefix_->check_integrity();
  for (const Sequence* sequence : running_) {
    CHECK(sequence->slot && sequence->verified <= sequence->computed &&
              sequence->computed < sequence->known(),
          "sequence: {} verified, {} computed, {} known", sequence->verified, sequence->computed,
          sequence->known());
  }
}

}  // namespace facet
