#include "chat/output_parser.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "chat/whitespace.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

using Kind = OutputEvent::Kind;

constexpr std::string_view kThoughtName = "thought";
constexpr std::string_view kThoughtOpening = "thought\n";
constexpr std::string_view kTurnOpening = "model\n";

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

bool ends_answer(TokenId id) {
  return id == control::kEos || id == control::kToolResponseOpen || id == control::kTurnClose ||
         id == control::kTurnOpen;
}

// "call:name", ":name" or "name", blanks anywhere around.
std::string call_name(std::string_view head) {
  head = without_outer_whitespace(head);
  for (const std::string_view prefix : {std::string_view("call:"), std::string_view(":")}) {
    if (!starts_with(head, prefix)) continue;
    head.remove_prefix(prefix.size());
    break;
  }
  return std::string(without_outer_whitespace(head));
}

}  // namespace

std::string_view OutputResult::finish_reason() const {
  switch (cause) {
    case FinishCause::kEndToken:
      return calls.empty() ? "stop" : "tool_calls";
    case FinishCause::kLength:
      return "length";
    case FinishCause::kAbort:
      return "abort";
    case FinishCause::kStopToken:
    case FinishCause::kStopString:
      break;
  }
  return "stop";
}

OutputParser::OutputParser(OutputOptions options)
    : options_(std::move(options)), stop_(options_.stop, options_.stop_text) {}

// ---- Input

void OutputParser::push_text(std::string_view text, Events& events) {
  while (!text.empty() && !ended()) {
    size_t taken = std::max<size_t>(1, utf8_length(text));
    if (state_ == State::kArguments) {
      taken = arguments_->push_text(text, json_);
      write_arguments(events);
      if (arguments_->ended()) finish_call(events);
    } else {
      push_character(text.substr(0, taken), events);
    }
    text.remove_prefix(taken);
  }
}

void OutputParser::push_character(std::string_view character, Events& events) {
  const bool blank = whitespace_length(character) > 0;
  switch (state_) {
    case State::kStart:
    case State::kStartTurn:
      return push_start(character, events);
    case State::kContent:
      return push_content(character, events);
    case State::kName:
      if (character == "\n") return open_thought(events);
      held_ += character;
      return;
    case State::kThought:
      return push_thought(character, events);
    case State::kHead:
      if (character == "{") return open_call(call_name(held_), CallOpener::kBrace, events);
      if (character == "(") return open_call(call_name(held_), CallOpener::kParenthesis, events);
      held_ += character;
      return;
    case State::kTail:
      if (character == "}" || character == "]" || character == ")") return;
      [[fallthrough]];
    case State::kAfter:
      if (blank) return;
      state_ = State::kContent;
      return push_content(character, events);
    case State::kArguments:
    case State::kEnded:
      return;
  }
}

void OutputParser::push_control(TokenId id, Events& events) {
  if (ended()) return;
  if (state_ == State::kStartTurn) {
    // Not followed by "model\n": that <|turn> was an end token.
    result_.end_token = control::kTurnOpen;
    return end(FinishCause::kEndToken, events);
  }
  if (state_ == State::kStart) {
    if (id == control::kTurnOpen && held_.empty() && !turn_skipped_) {
      state_ = State::kStartTurn;
      return;
    }
    leave_start(events);
    if (ended()) return;
  }
  if (ends_answer(id)) {
    end(FinishCause::kEndToken, events);
    if (!result_.stop_string) result_.end_token = id;
    return;
  }
  if (state_ == State::kArguments &&
      (id == control::kStringDelimiter || id == control::kToolCallOpen ||
       id == control::kToolCallClose)) {
    settle_arguments(events);
    if (ended()) return;
  }
  if (state_ == State::kHead || state_ == State::kArguments) {
    control_in_call(id, events);
  } else {
    control_in_prose(id, events);
  }
}

void OutputParser::control_in_prose(TokenId id, Events& events) {
  const bool thought = state_ == State::kThought;
  if (id == control::kToolCallOpen) {
    open_head(events);
  } else if (id == control::kChannelOpen) {
    if (!thought) open_name(events);
  } else if (id == control::kChannelClose) {
    if (thought || state_ == State::kName) {
      close_thought();
      skip_leading_blanks_ = true;
      state_ = State::kContent;
    }
  } else if (id == control::kStringDelimiter) {
    if (thought || state_ == State::kName) return;
    state_ = State::kContent;
    push_content("\"", events);
  } else if (id == control::kToolCallClose && state_ == State::kTail) {
    state_ = State::kAfter;
  }
}

void OutputParser::control_in_call(TokenId id, Events& events) {
  const bool head = state_ == State::kHead;
  if (id == control::kToolCallOpen) {
    if (!head) close_arguments(events);
    open_head(events);
  } else if (id == control::kToolCallClose) {
    if (head) return close_head(events);
    close_arguments(events);
    state_ = State::kAfter;
  } else if (id == control::kStringDelimiter && !head) {
    arguments_->push_delimiter(json_);
    write_arguments(events);
  }
}

// ---- The very start

OutputParser::State OutputParser::first_state() const {
  return options_.open_thought ? State::kThought : State::kContent;
}

void OutputParser::push_start(std::string_view character, Events& events) {
  held_ += character;
  if (state_ == State::kStartTurn) {
    if (held_ == kTurnOpening) {
      held_.clear();
      turn_skipped_ = true;
      state_ = State::kStart;
    } else if (!starts_with(kTurnOpening, held_)) {
      result_.end_token = control::kTurnOpen;
      end(FinishCause::kEndToken, events);
    }
    return;
  }
  const bool may_open_thought = options_.thinking && !options_.open_thought;
  if (may_open_thought && held_ == kThoughtOpening) {
    held_.clear();
    state_ = State::kThought;
  } else if (!may_open_thought || !starts_with(kThoughtOpening, held_)) {
    leave_start(events);
  }
}

void OutputParser::leave_start(Events& events) {
  state_ = first_state();
  push_text(std::exchange(held_, {}), events);
}

// ---- Content

void OutputParser::push_content(std::string_view text, Events& events) {
  if (skip_leading_blanks_) {
    text = without_leading_whitespace(text);
    if (text.empty()) return;
    skip_leading_blanks_ = false;
  }
  write_content(stop_.push(text), events);
  if (stop_.matched()) end(FinishCause::kStopString, events);
}

// Whitespace waits for what follows it: before a thought or a call it is dropped.
void OutputParser::write_content(std::string_view text, Events& events) {
  while (!text.empty()) {
    const size_t blank = whitespace_length(text);
    const size_t length = std::max<size_t>({1, blank, utf8_length(text)});
    blanks_ += text.substr(0, length);
    if (blank == 0) emit(Kind::kContent, std::exchange(blanks_, {}), events);
    text.remove_prefix(length);
  }
}

// Before a thought or a call.
void OutputParser::leave_content(Events& events) {
  write_content(stop_.flush(), events);
  if (stop_.matched()) return end(FinishCause::kStopString, events);
  blanks_.clear();
}

size_t OutputParser::held_content() const {
  const bool head_may_be_content =
      state_ == State::kStart || state_ == State::kStartTurn || state_ == State::kHead;
  return stop_.held() + blanks_.size() + (head_may_be_content ? held_.size() : 0);
}

// ---- Thoughts

void OutputParser::open_name(Events& events) {
  leave_content(events);
  if (ended()) return;
  held_.clear();
  state_ = State::kName;
}

void OutputParser::open_thought(Events& events) {
  const std::string name(without_outer_whitespace(std::exchange(held_, {})));
  state_ = State::kThought;
  if (name.empty() || name == kThoughtName) return;
  write_thought(name, events);
  push_thought("\n", events);
}

void OutputParser::push_thought(std::string_view character, Events& events) {
  if (std::exchange(thought_newline_, character == "\n")) write_thought("\n", events);
  if (!thought_newline_) write_thought(character, events);
}

void OutputParser::write_thought(std::string_view text, Events& events) {
  if (!thought_started_ && has_thought_) emit(Kind::kThought, "\n", events);
  thought_started_ = true;
  emit(Kind::kThought, text, events);
}

void OutputParser::close_thought() {
  thought_started_ = false;
  thought_newline_ = false;
}

// ---- Calls

void OutputParser::open_head(Events& events) {
  close_thought();
  leave_content(events);
  if (ended()) return;
  held_.clear();
  state_ = State::kHead;
}

// No bracket came: a call without arguments, or text.
void OutputParser::close_head(Events& events) {
  const std::string head = std::exchange(held_, {});
  const std::string name = call_name(head);
  if (declared(name) == nullptr) {
    state_ = State::kContent;
    return push_text(head, events);
  }
  open_call(name, CallOpener::kBrace, events);
  close_arguments(events);
  state_ = State::kAfter;
}

void OutputParser::open_call(std::string_view name, CallOpener opener, Events& events) {
  held_.clear();
  call_ = {std::string(name), {}};
  state_ = State::kArguments;
  ++calls_opened_;
  emit(Kind::kCallStart, name, events);
  arguments_.emplace(opener, declared(name), json_);
  write_arguments(events);
}

// Text behind a '"' that nothing closes may hold the end of the call, and what follows it.
void OutputParser::settle_arguments(Events& events) {
  const std::string rest = arguments_->settle(json_);
  write_arguments(events);
  if (!arguments_->ended()) return;
  finish_call(events);
  push_text(rest, events);
}

void OutputParser::close_arguments(Events& events) {
  arguments_->close(json_);
  write_arguments(events);
  finish_call(events);
}

void OutputParser::write_arguments(Events& events) {
  if (json_.empty()) return;
  call_.arguments += json_;
  emit(Kind::kCallArguments, std::exchange(json_, {}), events);
}

void OutputParser::finish_call(Events& events) {
  emit(Kind::kCallEnd, {}, events);
  result_.calls.push_back(std::exchange(call_, {}));
  arguments_.reset();
  state_ = State::kTail;
}

const DeclaredTool* OutputParser::declared(std::string_view name) const {
  for (const DeclaredTool& tool : options_.tools) {
    if (tool.name == name) return &tool;
  }
  return nullptr;
}

// ---- The end

void OutputParser::finish(FinishCause cause, Events& events) {
  if (!ended()) end(cause, events);
}

void OutputParser::end(FinishCause cause, Events& events) {
  // The cap and a withdrawal leave a call unfinished; other ends close it.
  const bool closes_call = cause != FinishCause::kLength && cause != FinishCause::kAbort;
  if (state_ == State::kStart) leave_start(events);
  if (state_ == State::kHead && closes_call) close_head(events);
  if (state_ == State::kArguments && closes_call) {
    settle_arguments(events);
    if (state_ == State::kArguments) close_arguments(events);
  }
  // Text released by these steps may have completed a stop string, and so ended the answer.
  if (ended()) return;
  result_.cause = cause;
  write_content(stop_.flush(), events);
  if (stop_.matched()) {
    result_.cause = FinishCause::kStopString;
    result_.stop_string = stop_.matched();
  }
  const bool alone = !has_thought_ && calls_opened_ == 0;
  if (!blanks_.empty() && (alone || content_bytes_ > 0)) {
    emit(Kind::kContent, std::exchange(blanks_, {}), events);
  }
  state_ = State::kEnded;
}

void OutputParser::emit(OutputEvent::Kind kind, std::string_view text, Events& events) {
  const bool kept = options_.text == OutputText::kKept;
  if (kind == Kind::kContent) {
    content_bytes_ += text.size();
    if (kept) result_.content += text;
  }
  if (kind == Kind::kThought) {
    has_thought_ = has_thought_ || !text.empty();
    if (kept) result_.reasoning += text;
  }
  const bool of_call = kind != Kind::kContent && kind != Kind::kThought;
  const int32_t call = of_call ? calls_opened_ - 1 : -1;
  const bool joins =
      kind == Kind::kContent || kind == Kind::kThought || kind == Kind::kCallArguments;
  if (joins && !events.empty() && events.back().kind == kind && events.back().call == call) {
    events.back().text += text;
  } else {
    events.push_back({kind, std::string(text), call});
  }
}

}  // namespace facet
