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

}  // namespace

Generation::Generation(Stepper& stepper, int32_t prefill_chunk, int64_t max_positions)
    : stepper_(stepper),
      chunk_(prefill_chunk),
      max_positions_(max_positions),
      slot_(stepper.cache().open()) {}

Generation::~Generation() { stepper_.cache().close(slot_); }

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
    const TensorView logits = stepper_.run({&step, 1});
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
  const int64_t held = std::ssize(cached_) + std::ssize(prompt);
  if (prompt.empty()) throw Error(ErrorCode::kBadInput, "the prompt is empty");
  if (held >= max_positions_) {
    throw Error(ErrorCode::kBadInput,
                fmt::format("the prompt has {} tokens with what came before, there is room for {}",
                            held, max_positions_));
  }
  Sampler sampler(params.sampling, params.never_ids);
  sampler.see_prompt(cached_);
  sampler.see_prompt(prompt);
  GenerationResult result;
  result.times.prompt_tokens = static_cast<int32_t>(prompt.size());
  const auto start = Clock::now();
  auto first_token = start;
  bool going = feed(prompt, params);
  if (!going) result.cause = GenerationEnd::kStopped;
  while (going && result.times.generated_tokens < params.max_tokens) {
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
