#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "chat/call_arguments.h"
#include "chat/declared_tools.h"
#include "chat/stop_strings.h"

namespace facet {

/// Why an answer ended.
enum class FinishCause {
  kEndToken,    ///< the model ended its turn
  kStopToken,   ///< a token the request named
  kStopString,  ///< a string the request named
  kLength,      ///< the cap or the end of the context
  kAbort,       ///< the request was withdrawn
};

/// One step of a streamed answer. The texts of one kind (and call), joined, are those of the whole.
struct OutputEvent {
  enum class Kind {
    kContent,        ///< text: a piece of content
    kThought,        ///< text: a piece of the thought
    kCallStart,      ///< text: the whole name of the function
    kCallArguments,  ///< text: a piece of the arguments' JSON
    kCallEnd,        ///< the arguments are complete; text is empty
  };
  Kind kind;
  std::string text;
  int32_t call;  ///< number of the call, from 0; -1 for content and thoughts

  bool operator==(const OutputEvent&) const = default;
};

struct OutputCall {
  std::string name;
  std::string arguments;  ///< compact JSON, keys in the order generated

  bool operator==(const OutputCall&) const = default;
};

/// The whole answer. A call that the cap cut off is not in it.
struct OutputResult {
  std::string content;    ///< stays empty with OutputText::kEventsOnly
  std::string reasoning;  ///< likewise
  std::vector<OutputCall> calls;
  FinishCause cause = FinishCause::kEndToken;
  std::optional<TokenId> end_token;        ///< the control token that ended the answer
  std::optional<std::string> stop_string;  ///< the stop string that ended it

  /// "stop", "tool_calls", "length" or "abort".
  std::string_view finish_reason() const;
};

/// Is the text of an answer kept for the result, or only passed on in events?
enum class OutputText { kKept, kEventsOnly };

struct OutputOptions {
  bool thinking = false;      ///< thinking is on: "thought\n" at the very start opens a thought
  bool open_thought = false;  ///< the prompt ended in an open channel
  std::vector<DeclaredTool> tools;
  std::vector<std::string> stop;  ///< matched in content only
  StopText stop_text = StopText::kCut;
  OutputText text = OutputText::kKept;
};

/// Parts what Gemma 4 writes into thought, content and calls. Input is text and control tokens; how
/// the text is split makes no difference to the joined events. No input is an error: what is not
/// well-formed is repaired, and arguments are always well-formed JSON. Events are appended to
/// `events`; a piece that continues the last one there is joined to it. Text that the next input
/// could still drop (blanks, what may become a stop string) is held back.
class OutputParser {
 public:
  using Events = std::vector<OutputEvent>;

  explicit OutputParser(OutputOptions options);
  // A call being read points into options_.tools: moving keeps that in place, copying would not.
  OutputParser(OutputParser&&) = default;
  OutputParser(const OutputParser&) = delete;
  OutputParser& operator=(const OutputParser&) = delete;
  ~OutputParser() = default;

  /// Whole UTF-8 characters.
  void push_text(std::string_view text, Events& events);
  /// Any control token. Tokens 1, 50, 105 and 106 end the answer.
  void push_control(TokenId id, Events& events);
  /// Generation is over; does nothing if the answer has ended by itself. A token that is in the
  /// request's stop_token_ids must not be pushed.
  void finish(FinishCause cause, Events& events);

  /// Has an end token or a stop string ended the answer? Further input is then ignored.
  bool ended() const { return state_ == State::kEnded; }
  const OutputResult& result() const { return result_; }
  /// Is what is being read part of a thought?
  bool in_thought() const {
    return state_ == State::kThought || (state_ == State::kStart && options_.open_thought);
  }
  /// Bytes read that are held back and may still become content.
  size_t held_content() const;
  /// Bytes of content written so far.
  size_t content_bytes() const { return content_bytes_; }

 private:
  enum class State {
    kStart,      // nothing but what may become "thought\n" has been read
    kStartTurn,  // behind <|turn> at the very start: "model\n" must follow
    kContent,
    kName,
    kThought,
    kHead,
    kArguments,
    kTail,   // behind the bracket that closed a call
    kAfter,  // behind <tool_call|>
    kEnded,
  };

  State first_state() const;
  void push_character(std::string_view character, Events& events);
  void push_start(std::string_view character, Events& events);
  void leave_start(Events& events);

  void push_content(std::string_view text, Events& events);
  void write_content(std::string_view text, Events& events);
  void leave_content(Events& events);

  void open_name(Events& events);
  void open_thought(Events& events);
  void push_thought(std::string_view character, Events& events);
  void write_thought(std::string_view text, Events& events);
  void close_thought();

  void open_head(Events& events);
  void close_head(Events& events);
  void open_call(std::string_view name, CallOpener opener, Events& events);
  void settle_arguments(Events& events);
  void close_arguments(Events& events);
  void write_arguments(Events& events);
  void finish_call(Events& events);
  const DeclaredTool* declared(std::string_view name) const;

  void control_in_prose(TokenId id, Events& events);
  void control_in_call(TokenId id, Events& events);
  void end(FinishCause cause, Events& events);
  void emit(OutputEvent::Kind kind, std::string_view text, Events& events);

  OutputOptions options_;
  OutputResult result_;
  size_t content_bytes_ = 0;
  bool has_thought_ = false;
  State state_ = State::kStart;
  std::string held_;           // kStart, kStartTurn, kName, kHead: the text read there
  bool turn_skipped_ = false;  // <|turn> "model\n" has been

  StopStrings stop_;
  std::string blanks_;                // whitespace of content not yet written
  bool skip_leading_blanks_ = false;  // behind <channel|>

  bool thought_started_ = false;  // something of the current thought was written
  bool thought_newline_ = false;  // a '\n' of the current thought is held back

  std::optional<CallArguments> arguments_;
  OutputCall call_;   // the unfinished one
  std::string json_;  // arguments not yet written as an event
  int32_t calls_opened_ = 0;
};

}  // namespace facet
