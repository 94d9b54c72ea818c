#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "server/json_writer.h"
#include "server/token_text.h"

namespace facet {

/// Token counts of one request (server-api 5.12).
struct Usage {
  int32_t prompt = 0;      ///< once, whatever n is
  int32_t cached = 0;      ///< of these, taken from the prefix cache
  int32_t completion = 0;  ///< of all choices, control and end tokens too
  int32_t reasoning = 0;   ///< of these, inside thoughts
};
void write_usage(JsonWriter& json, const Usage& usage);

/// Makes what is sent of the tokens of one request. One prompt may have several choices, and a
/// request several prompts: choices are numbered prompt * n + choice. Used on the loop's thread.
class Answer {
 public:
  virtual ~Answer() = default;

  enum class Next {
    kGoOn,
    kEnough,  ///< the choice has ended by itself: a stop string, a first call
  };

  /// Before the first take() of that prompt's choices.
  virtual void start(int32_t prompt,
                     int32_t cached_tokens,
                     std::vector<std::optional<TokenLogprob>> prompt_logprobs) = 0;
  /// What a step brought to a choice that has not ended. Of a stream, events are kept until
  /// release_events().
  virtual Next take(int32_t choice, const TokenEvent& event) = 0;
  /// A stream's events since the last call, as they go over the wire.
  virtual std::string release_events() = 0;
  /// What ends a stream once all choices have.
  virtual std::string last_events() = 0;
  /// The plain answer, once all choices have ended.
  virtual std::string body() = 0;

  virtual Usage usage() const = 0;
  /// "stop", "length", …, of the choice that ended last.
  virtual std::string_view finish_reason() const = 0;
};

/// A request made ready: for the engine, and what writes the answer.
struct Prepared {
  std::vector<Request> requests;  ///< one per prompt, without sink
  std::unique_ptr<Answer> answer;
  bool stream = false;
  std::string log_id;                  ///< the id clients may name the request by
  std::optional<uint64_t> drawn_seed;  ///< logged, so that an answer can be had again
};

/// "data: " JSON "\n\n"
void append_event(std::string& out, std::string_view json);
inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";

/// What the writers of chats and completions share.
struct AnswerStyle {
  std::string head;  ///< answer_head() of a plain answer or of events
  bool logprobs = false;
  TokenNames token_names = TokenNames::kText;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool return_token_ids = false;
  bool return_prompt_logprobs = false;
};
/// The member "usage" of an event, if events have one.
void write_event_usage(JsonWriter& json, const AnswerStyle& style, const Usage& usage);
/// What ends a stream: usage, if asked for, and [DONE].
std::string closing_events(const AnswerStyle& style, const Usage& usage);

/// How a choice ended, as JSON (server-api 5.8).
struct Ending {
  std::string_view reason = "stop";
  std::string stop_reason = "null";
  std::string matched_stop = "null";
};
void write_ending(JsonWriter& json, const Ending& ending);

/// A JSON string.
std::string json_text(std::string_view text);

}  // namespace facet
