#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/logprobs.h"
#include "engine/sampling.h"

namespace facet {

/// Limits which token a choice may take next (forced heads of tool calls, a grammar, a thinking
/// budget). One per choice, used by the engine thread alone, in order. It is never asked twice for
/// the same token: a choice that loses its pages and is computed again keeps its guide's state.
class TokenGuide {
 public:
  virtual ~TokenGuide() = default;

  /// What the next token may be.
  struct Rule {
    enum class Kind {
      kAny,
      kForced,  ///< `forced` and nothing else, even where it is never sampled otherwise
      kOnly,    ///< one of `allowed` that is not masked for another reason
    };
    Kind kind = Kind::kAny;
    int32_t forced = -1;  ///< kForced: an id in [0, vocab)
    std::span<const uint64_t>
        allowed;  ///< kOnly: bit id % 64 of word id / 64; valid until accept()
  };
  /// Called once before each token is chosen. Must not throw.
  virtual Rule next() = 0;
  /// The token that was taken, forced and end tokens too. Must not throw.
  virtual void accept(int32_t id) = 0;
};

/// Why a choice ended.
enum class FinishReason {
  kEndToken,  ///< one of end_ids was taken; the event carries it
  kLength,    ///< max_tokens
  kAborted,   ///< cancelled, or the engine went away
  kError,     ///< TokenEvent::error says what
  kTimeout,   ///< queue_deadline or deadline passed
};

/// What one step brought to one choice.
struct TokenEvent {
  int32_t choice = 0;
  int32_t id = -1;                           ///< -1: no token, only a finish
  std::optional<TokenLogprob> logprob = {};  ///< if asked, with an id
  std::optional<FinishReason> finish = {};   ///< set once per choice, on its last event
  std::string error = {};                    ///< kError: one sentence, no prompt text
};

/// Where the events of a request go. Called by the engine thread; must not block or throw. The
/// engine lets go of it after the last choice's finish.
class TokenSink {
 public:
  virtual ~TokenSink() = default;

  /// Once, before the first event, also of a request that ends before it began. `cached_tokens`:
  /// how many prompt tokens came from the prefix cache when the request first began.
  /// `prompt_logprobs`: empty if not asked or not computed; else entry i is of prompt[i], and entry
  /// 0 has no value, having no predecessor.
  virtual void on_start(int32_t cached_tokens,
                        std::vector<std::optional<TokenLogprob>> prompt_logprobs) = 0;
  /// All events that one step brought to this request, in choice order.
  virtual void on_tokens(std::span<const TokenEvent> events) = 0;
};

/// One request: a prompt and `choices` answers to it. Ids only; text lives in the server. A
/// choice's tokens depend on the prompt, the sampling parameters and its guide alone: not on other
/// requests, nor on how its prompt was cut into steps, nor on what came from the prefix cache.
struct Request {
  std::string id;               ///< for logs; unique among live requests is not needed
  std::vector<int32_t> prompt;  ///< at least one id, each in [0, vocab)
  int32_t choices = 1;          ///< 1 to 128; they share the prompt's pages
  SamplingParams sampling;      ///< its `choice` is set by the engine
  int32_t max_tokens = 1;  ///< per choice; 0: nothing is sampled (one event, kLength, no token)
  int32_t min_tokens = 0;  ///< end_ids are not sampled before so many tokens are out
  std::vector<int32_t> end_ids;            ///< end or stop tokens
  std::vector<int32_t> never_ids;          ///< never sampled
  std::optional<int32_t> logprobs;         ///< 0 to 20 best besides the chosen one's own
  std::optional<int32_t> prompt_logprobs;  ///< 0 to 20; the prompt is then computed as a whole
  std::string cache_key;  ///< pages of the prefix cache are shared among equal keys only
  int32_t priority = 0;   ///< lower runs first, with ScheduleOrder::kPriority
  /// Makes the guide of a choice, on the engine thread. Empty: none. Must not throw.
  std::function<std::unique_ptr<TokenGuide>(int32_t choice)> make_guide;
  /// kTimeout if no choice has begun by then.
  std::optional<std::chrono::steady_clock::time_point> queue_deadline;
  /// kTimeout for the choices that have not ended by then.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  std::chrono::steady_clock::time_point submitted;  ///< set by the engine
  std::shared_ptr<TokenSink> sink;  ///< shared: the server's side may let go of it first
};

}  // namespace facet
