#include "server/live_request.h"

#include <algorithm>
#include <fmt/core.h>
#include <new>
#include <utility>

#include "base/log.h"

namespace facet {
namespace {

constexpr std::string_view kPing = ": ping\n\n";

ApiError refused(Refusal refusal, const Engine& engine, size_t prompt) {
  switch (refusal) {
    case Refusal::kQueueFull:
    case Refusal::kQueueTokensFull:
      return {ApiCode::kServerOverloaded, "The queue is full; try again later."};
    case Refusal::kTooLong:
      return {ApiCode::kContextLengthExceeded,
              fmt::format("This model's maximum context length is {} tokens. However, your request "
                          "has {} input tokens.",
                          engine.limits().max_model_len, prompt)};
    case Refusal::kDraining:
      return {ApiCode::kShuttingDown, "The server is shutting down."};
    case Refusal::kFailed:
      break;
  }
  return {ApiCode::kEngineError, "The engine has failed."};
}

}  // namespace

/// Passes on what the engine says of one prompt.
class LiveRequest::Sink final : public TokenSink {
 public:
  Sink(std::shared_ptr<LiveRequest> request, int32_t prompt)
      : request_(std::move(request)), prompt_(prompt) {}

  void on_start(int32_t cached_tokens,
                std::vector<std::optional<TokenLogprob>> prompt_logprobs) override {
    std::vector<Message> messages(1);
    messages[0].prompt = prompt_;
    messages[0].is_start = true;
    messages[0].cached_tokens = cached_tokens;
    messages[0].prompt_logprobs = std::move(prompt_logprobs);
    request_->receive(std::move(messages));
  }

  void on_tokens(std::span<const TokenEvent> events) override {
    std::vector<Message> messages(events.size());
    for (size_t i = 0; i < events.size(); ++i) {
      messages[i].prompt = prompt_;
      messages[i].event = events[i];
    }
    request_->receive(std::move(messages));
  }

 private:
  const std::shared_ptr<LiveRequest> request_;  // until the engine lets go of the sink
  const int32_t prompt_;
};

LiveRequest::LiveRequest(Engine& engine,
                         http::Loop& loop,
                         Prepared prepared,
                         std::shared_ptr<http::Exchange> exchange,
                         Origin origin)
    : engine_(engine),
      loop_(loop),
      answer_(std::move(prepared.answer)),
      stream_(prepared.stream),
      log_id_(prepared.log_id.empty() ? origin.request_id : prepared.log_id),
      drawn_seed_(prepared.drawn_seed),
      exchange_(std::move(exchange)),
      origin_(std::move(origin)),
      requests_(std::move(prepared.requests)),
      last_write_(Clock::now()) {}

bool LiveRequest::submit() {
  choices_per_prompt_ = requests_.front().choices;
  left_ = requests_.size() * static_cast<size_t>(choices_per_prompt_);
  done_.assign(left_, false);
  last_tokens_.resize(left_);
  int32_t prompt = 0;
  for (Request& request : requests_) {
    const size_t tokens = request.prompt.size();
    prompt_tokens_.push_back(static_cast<int32_t>(tokens));
    request.sink = std::make_shared<Sink>(shared_from_this(), prompt++);
    try {
      const auto taken = engine_.submit(std::move(request));
      if (const Refusal* refusal = std::get_if<Refusal>(&taken)) {
        fail(refused(*refusal, engine_, tokens));
        return false;
      }
      handles_.push_back(std::get<RequestHandle>(taken));
    } catch (const Error& error) {
      fail({ApiCode::kInvalidValue, error.message(), error.place()});
      return false;
    }
  }
  std::vector<Request>().swap(requests_);
  return true;
}

void LiveRequest::begin(std::function<void(LiveRequest&)> ended) {
  ended_ = std::move(ended);
  if (!submit()) return;
  if (stream_) {
    http::Response head;
    head.content_type = "text/event-stream; charset=utf-8";
    head.fields = origin_.fields;
    head.fields.push_back({"Cache-Control", "no-cache"});
    head.fields.push_back({"X-Accel-Buffering", "no"});
    streaming_ = true;
    exchange_->begin_stream(std::move(head));
  }
  exchange_->on_gone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->gone();
  });
}

// ---- From the engine

void LiveRequest::receive(std::vector<Message> messages) {
  const auto now = Clock::now();
  bool ends = false;
  const std::lock_guard lock(mu_);
  for (Message& message : messages) {
    message.at = now;
    ends = ends || message.event.finish;
    inbox_.push_back(std::move(message));
  }
  // An end waits for no pause.
  if (std::exchange(scheduled_, true) && !ends) return;
  loop_.post([self = shared_from_this()] { self->drain(); });
}

void LiveRequest::drain() {
  try {
    drain_inbox();
  } catch (const std::bad_alloc&) {
    // Something of the answer may be lost, so nothing may look like its end.
    log_warning("request", "cut off: no memory");
    exchange_->abort();
  }
}

std::vector<LiveRequest::Message> LiveRequest::take_inbox() {
  // An engine that makes tokens fast would wake the loop, and the client, for each: up to a tenth
  // of what a small model's step costs. Tokens that come within a pause travel together; one that
  // comes after it is passed on at once.
  std::vector<Message> messages;
  const std::lock_guard lock(mu_);
  messages.swap(inbox_);
  if (!messages.empty()) {
    const auto now = Clock::now();
    const bool fast = now - std::exchange(last_drain_, now) < loop_.pause() * 3 / 2;
    if (fast && !std::exchange(pausing_, true)) {
      loop_.after_pause([self = shared_from_this()] {
        self->pausing_ = false;
        self->drain();
      });
    }
  }
  scheduled_ = pausing_;
  return messages;
}

void LiveRequest::drain_inbox() {
  const std::vector<Message> messages = take_inbox();
  for (const Message& message : messages) {
    if (over_) return;
    take(message);
  }
  if (over_) return;
  if (streaming_) {
    const std::string events = answer_->release_events();
    if (!events.empty()) {
      last_write_ = Clock::now();
      exchange_->write(events);
    }
  }
  if (!over_ && left_ == 0) complete();
}

void LiveRequest::take(const Message& message) {
  if (message.is_start)
    return answer_->start(message.prompt, message.cached_tokens, message.prompt_logprobs);
  const TokenEvent& event = message.event;
  const int32_t choice = message.prompt * choices_per_prompt_ + event.choice;
  if (done_[static_cast<size_t>(choice)]) return;
  if (event.finish == FinishReason::kError) {
    log_warning("request", "engine error id={} message=\"{}\"", origin_.request_id, event.error);
    return fail({ApiCode::kEngineError, "The engine could not go on with this request."});
  }
  if (event.finish == FinishReason::kTimeout) {
    if (first_token_) return fail({ApiCode::kRequestTimeout, "The request took too long."});
    return fail({ApiCode::kQueueTimeout, "The request waited too long in the queue."});
  }
  count(message, choice);
  const bool enough = answer_->take(choice, event) == Answer::Next::kEnough;
  if (!enough && !event.finish) return;
  done_[static_cast<size_t>(choice)] = true;
  --left_;
  if (!event.finish) engine_.cancel(handles_[static_cast<size_t>(message.prompt)], event.choice);
}

void LiveRequest::count(const Message& message, int32_t choice) {
  const TokenEvent& event = message.event;
  const auto prompt = static_cast<size_t>(message.prompt);
  if (event.id < 0 && event.finish != FinishReason::kLength) return;
  ServerMeters* meters = origin_.meters;
  if (meters != nullptr) meters->prompt_tokens += std::exchange(prompt_tokens_[prompt], 0);
  if (event.id < 0) return;
  const auto now = Clock::now();
  const auto seconds = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count();
  };
  const bool first = !std::exchange(first_token_, first_token_.value_or(now));
  // Between tokens as they were made: some travel together.
  Clock::time_point& last = last_tokens_[static_cast<size_t>(choice)];
  const Clock::time_point before = std::exchange(last, message.at);
  if (meters == nullptr) return;
  ++meters->generated_tokens;
  if (first) meters->first_token_seconds.observe(seconds(now - origin_.arrival));
  if (before != Clock::time_point())
    meters->token_gap_seconds.observe(seconds(message.at - before));
}

// ---- The end

void LiveRequest::complete() {
  if (streaming_) {
    exchange_->write(answer_->last_events());
    exchange_->end_stream(http::After::kKeepOpen);
  } else {
    http::Response response;
    response.body = answer_->body();
    response.fields = origin_.fields;
    exchange_->respond(std::move(response));
  }
  if (origin_.meters != nullptr) {
    const std::chrono::duration<double> total = Clock::now() - origin_.arrival;
    origin_.meters->answered(answer_->finish_reason(), answer_->usage(), total.count());
  }
  end(200, answer_->finish_reason());
}

void LiveRequest::cancel_all() {
  for (const RequestHandle handle : handles_) engine_.cancel(handle);
}

void LiveRequest::gone() {
  if (over_) return;
  cancel_all();
  if (origin_.meters != nullptr) origin_.meters->cancelled(answer_->usage());
  end(streaming_ ? 200 : 499, "cancelled");
}

void LiveRequest::abort() {
  if (!over_) cancel_all();
}

void LiveRequest::fail(const ApiError& error) {
  if (over_) return;
  cancel_all();
  if (streaming_) {
    std::string event = answer_->release_events();
    append_event(event, error_body(error));
    exchange_->write(event);
    exchange_->end_stream(http::After::kClose);
  } else {
    http::Response response = error_response(error);
    response.fields.insert(response.fields.end(), origin_.fields.begin(), origin_.fields.end());
    exchange_->respond(std::move(response));
  }
  if (origin_.meters != nullptr) {
    origin_.meters->refused(error.api());
    origin_.meters->reasoning_tokens += answer_->usage().reasoning;
  }
  end(api_row(error.api()).status, api_row(error.api()).code);
}

void LiveRequest::ping(Clock::time_point now, std::chrono::seconds period) {
  if (over_ || !streaming_ || now - last_write_ < period) return;
  last_write_ = now;
  exchange_->write(kPing);
}

void LiveRequest::end(int32_t status, std::string_view reason) {
  over_ = true;
  log(status, reason);
  const auto self = shared_from_this();
  if (const auto ended = std::exchange(ended_, nullptr)) ended(*this);
}

void LiveRequest::log(int32_t status, std::string_view reason) const {
  const auto seconds = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count();
  };
  const Usage usage = answer_->usage();
  const auto now = Clock::now();
  const double total = seconds(now - origin_.arrival);
  const double first = first_token_ ? seconds(*first_token_ - origin_.arrival) : 0;
  const double decode = first_token_ ? seconds(now - *first_token_) : 0;
  const double rate = decode > 0 && usage.completion > 1 ? (usage.completion - 1) / decode : 0;
  log_info("request",
           "done id={} status={} reason={} prompt={} cached={} generated={} ttft={:.3f}s "
           "rate={:.1f}tok/s total={:.3f}s{}",
           log_id_, status, reason, usage.prompt, usage.cached, usage.completion, first, rate,
           total,
           // As the field "seed" takes it.
           drawn_seed_ ? fmt::format(" seed={}", static_cast<int64_t>(*drawn_seed_)) : "");
}

}  // namespace facet
