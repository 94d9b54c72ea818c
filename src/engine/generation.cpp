#include "engine/generation.h"

#include <algorithm>
#include <chrono>
#include <fmt/core.h>

#include "base/error.h"

namespace facet {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Gives a step up when it is told to, at the next layer.
class Interrupt final : public StepObserver {
 public:
  explicit Interrupt(const std::function<bool()>& keep_going) : keep_going_(keep_going) {}

  bool goes_on(int32_t /*layer*/) override { return !stopped_ && !(stopped_ = !keep_going_()); }
  bool stopped() const { return stopped_; }

 private:
  const std::function<bool()>& keep_going_;
  bool stopped_ = false;
};

double per_second(int32_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? tokens / seconds : 0.0;
}

}  // namespace

double GenerationTimes::prompt_rate() const {
  return per_second(prompt_tokens - cached_tokens, prompt_s);
}

double GenerationTimes::decode_rate() const { return per_second(generated_tokens - 1, decode_s); }

Generation::Generation(Stepper& stepper, int32_t prefill_chunk, int64_t max_positions)
    : stepper_(stepper),
      chunk_(prefill_chunk),
      max_positions_(max_positions),
      slot_(stepper.cache().open()) {}

Generation::~Generation() { stepper_.cache().close(slot_); }

void Generation::rewind_to_common(std::span<const int32_t> prompt) {
  const auto [parted, ignored] =
      std::mismatch(cached_.begin(), cached_.end(), prompt.begin(), prompt.end());
  // The last id is always read: its logits are what the answer begins with.
  const auto common = std::min(parted - cached_.begin(), std::ssize(prompt) - 1);
  KvCache& cache = stepper_.cache();
  const int32_t length = cache.rewindable(slot_, static_cast<int32_t>(common));
  cache.rewind(slot_, length);
  cached_.resize(static_cast<size_t>(length));
}

bool Generation::feed(std::span<const int32_t> ids, const GenerationParams& params) {
  for (size_t at = 0; at < ids.size(); at += static_cast<size_t>(chunk_)) {
    if (params.keep_going && !params.keep_going()) return false;
    const auto part = ids.subspan(at, std::min(static_cast<size_t>(chunk_), ids.size() - at));
    if (!stepper_.cache().reserve(slot_, static_cast<int32_t>(part.size()))) {
      throw Error(ErrorCode::kInternal,
                  fmt::format("the KV cache is full at {} positions", cached_.size()));
    }
    const bool last = at + part.size() == ids.size();
    const SequenceStep step = {slot_, part, last ? LogitRows::kLast : LogitRows::kNone};
    Interrupt interrupt(params.keep_going);
    const bool is_long = params.keep_going && part.size() > 1;
    const TensorView logits = stepper_.run({&step, 1}, is_long ? &interrupt : nullptr);
    if (interrupt.stopped()) return false;
    cached_.insert(cached_.end(), part.begin(), part.end());
    if (last) {
      const std::span<const float> row = logits.as<float>();
      logits_.assign(row.begin(), row.end());
    }
  }
  return true;
}

GenerationResult Generation::run(std::span<const int32_t> prompt,
                                 const GenerationParams& params,
                                 const OnToken& on_token) {
  if (prompt.empty()) throw Error(ErrorCode::kBadInput, "the prompt is empty");
  if (std::ssize(prompt) >= max_positions_) {
    throw Error(ErrorCode::kBadInput, fmt::format("the prompt has {} tokens, there is room for {}",
                                                  prompt.size(), max_positions_));
  }
  Sampler::Scratch scratch;
  Sampler sampler(params.sampling, params.never_ids, scratch);
  sampler.see_prompt(prompt);
  GenerationResult result;
  result.times.prompt_tokens = static_cast<int32_t>(prompt.size());
  const auto start = Clock::now();
  auto first_token = start;
  rewind_to_common(prompt);
  stepper_.cache().keep(slot_, std::min(params.lasting_ids, result.times.prompt_tokens));
  result.times.cached_tokens = static_cast<int32_t>(cached_.size());
  bool going = feed(prompt.subspan(cached_.size()), params);
  if (!going) result.cause = GenerationEnd::kStopped;
  while (going && result.times.generated_tokens < params.max_tokens) {
    if (!all_finite(logits_))
      throw Error(ErrorCode::kInternal, "the model's logits are not finite numbers");
    const int32_t id = sampler.sample(logits_, std::ssize(cached_), {});
    if (id < 0) throw Error(ErrorCode::kInternal, "no token may be sampled");
    if (++result.times.generated_tokens == 1) {
      first_token = Clock::now();
      result.times.prompt_s = seconds_since(start);
    }
    if (std::find(params.end_ids.begin(), params.end_ids.end(), id) != params.end_ids.end()) {
      result.cause = GenerationEnd::kEndToken;
      result.end_id = id;
      break;
    }
    sampler.see_output(id);
    if (!on_token(id)) {
      result.cause = GenerationEnd::kStopped;
      break;
    }
    // The last token of an answer that was cut off is never read.
    if (result.times.generated_tokens == params.max_tokens || std::ssize(cached_) == max_positions_)
      break;
    if (!feed({&id, 1}, params)) {
      result.cause = GenerationEnd::kStopped;
      break;
    }
  }
  result.times.decode_s = seconds_since(first_token);
  return result;
}

}  // namespace facet
