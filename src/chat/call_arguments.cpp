#include "chat/call_arguments.h"

#include <algorithm>

#include "base/check.h"
#include "base/text.h"
#include "chat/argument_values.h"
#include "chat/whitespace.h"
#include "json/json_sax.h"

namespace facet {
namespace {

bool is_closing_bracket(char c) { return c == '}' || c == ']'; }

void drop_closing_brackets(std::string& text) {
  while (!text.empty() && is_closing_bracket(text.back())) text.pop_back();
}

}  // namespace

CallArguments::CallArguments(CallOpener opener, const DeclaredTool* tool, std::string& json)
    : opener_(opener), tool_(tool) {
  json += '{';
}

size_t CallArguments::push_text(std::string_view text, std::string& json) {
  size_t taken = 0;
  while (taken < text.size() && !ended()) {
    const std::string_view rest = text.substr(taken);
    const std::string_view character = rest.substr(0, std::max<size_t>(1, utf8_length(rest)));
    push_character(character, json);
    taken += character.size();
  }
  return taken;
}

void CallArguments::push_character(std::string_view character, std::string& json) {
  switch (state_) {
    case State::kKeyStart:
      start_key(character, json);
      break;
    case State::kValueStart:
      start_value(character, json);
      break;
    case State::kKeyDelimited:
    case State::kValueHeld:
      token_ += character;
      break;
    case State::kValueStreamed:
      push_streamed(character, json);
      break;
    case State::kQuoted:
      push_quoted(character, json);
      break;
    case State::kKeyBare:
    case State::kKeyDone:
    case State::kValueBare:
    case State::kValueDone:
      push_loose(character, json);
      break;
    case State::kEnded:
      break;
  }
}

void CallArguments::start_key(std::string_view character, std::string& json) {
  if (whitespace_length(character) > 0 || character == ",") return;
  if (character == "\"") return begin_quoted(Quoted::kKey);
  token_.clear();
  state_ = State::kKeyBare;
  push_loose(character, json);
}

void CallArguments::start_value(std::string_view character, std::string& json) {
  if (whitespace_length(character) > 0) return;
  if (character == "\"") return begin_quoted(Quoted::kValue);
  // What is deeper than a request may hold is bare text, brackets and all.
  if ((character == "{" || character == "[") && frames_.size() < kMaxJsonDepth) {
    begin_item(json);
    json += character;
    const bool object = character == "{";
    frames_.push_back({object ? Container::kObject : Container::kList, 0});
    state_ = object ? State::kKeyStart : State::kValueStart;
    return;
  }
  // Nothing before a list's closing bracket is no item; nothing before its comma is one.
  if (frames_.back().kind == Container::kList && closes(character[0])) {
    return close_container(json);
  }
  token_.clear();
  state_ = State::kValueBare;
  push_loose(character, json);
}

// Bare and dropped text. Brackets and strings in it are kept whole, so that what they hold cannot
// end it.
void CallArguments::push_loose(std::string_view character, std::string& json) {
  const char first = character[0];
  if (!in_string_) {
    if (groups_ == 0) {
      const bool key = state_ == State::kKeyBare || state_ == State::kKeyDone;
      if (key && first == ':') return finish_key(json);
      if (first == ',') return finish_item(json);
      if (closes(first)) {
        finish_item(json);
        return close_container(json);
      }
    }
    if (first == '{' || first == '[') ++groups_;
    if (is_closing_bracket(first)) --groups_;
  }
  if (state_ == State::kKeyBare || state_ == State::kValueBare) token_ += character;
}

void CallArguments::begin_quoted(Quoted what) {
  quoted_ = what;
  token_.clear();
  escaped_ = false;
  state_ = State::kQuoted;
}

void CallArguments::push_quoted(std::string_view character, std::string& json) {
  if (character == "\"" && !escaped_) {
    token_ = unquoted(token_);
    if (quoted_ == Quoted::kKey) {
      state_ = State::kKeyDone;
    } else {
      write_value(string_value(token_, parameter()), json);
      state_ = State::kValueDone;
    }
    return;
  }
  escaped_ = !escaped_ && character == "\\";
  token_ += character;
}

void CallArguments::push_streamed(std::string_view character, std::string& json) {
  if (is_closing_bracket(character[0])) {
    brackets_ += character;
    return;
  }
  json += brackets_;
  brackets_.clear();
  append_escaped(json, character);
}

std::string CallArguments::settle(std::string& json) {
  if (state_ != State::kQuoted) return {};
  const std::string held = std::move(token_);
  token_.clear();
  state_ = quoted_ == Quoted::kKey ? State::kKeyBare : State::kValueBare;
  push_loose("\"", json);
  // Every '"' in the held text is escaped, so none can begin a value and be held again.
  return held.substr(push_text(held, json));
}

void CallArguments::push_delimiter(std::string& json) {
  CHECK(!ended() && state_ != State::kQuoted, "settle() must come first");
  switch (state_) {
    case State::kKeyStart:
      token_.clear();
      state_ = State::kKeyDelimited;
      break;
    case State::kKeyDelimited:
      state_ = State::kKeyDone;
      break;
    case State::kValueStart:
      token_.clear();
      if (may_be_respelled(parameter())) {
        state_ = State::kValueHeld;
      } else {
        write_value("\"", json);
        state_ = State::kValueStreamed;
      }
      break;
    case State::kValueStreamed:
      json += brackets_;
      brackets_.clear();
      json += '"';
      state_ = State::kValueDone;
      break;
    case State::kValueHeld:
      write_value(string_value(token_, parameter()), json);
      state_ = State::kValueDone;
      break;
    default:
      in_string_ = !in_string_;
  }
}

void CallArguments::close(std::string& json) {
  CHECK(!ended() && state_ != State::kQuoted, "settle() must come first");
  if (state_ == State::kValueStreamed) {
    brackets_.clear();
    json += '"';
    state_ = State::kValueDone;
  } else if (state_ == State::kValueHeld) {
    drop_closing_brackets(token_);
    write_value(string_value(token_, parameter()), json);
    state_ = State::kValueDone;
  } else if (state_ == State::kValueBare && in_string_) {
    drop_closing_brackets(token_);
  } else if (state_ == State::kValueStart && frames_.back().kind == Container::kObject) {
    token_.clear();
    state_ = State::kValueBare;
  }
  finish_item(json);
  while (!ended()) close_container(json);
}

void CallArguments::finish_key(std::string& json) {
  const std::string key =
      state_ == State::kKeyBare ? std::string(without_outer_whitespace(token_)) : token_;
  if (frames_.size() == 1) top_key_ = key;
  if (frames_.back().items++ > 0) json += ',';
  json += '"';
  append_escaped(json, key);
  json += "\":";
  state_ = State::kValueStart;
}

// A pair's comma stands before its key.
void CallArguments::begin_item(std::string& json) {
  if (frames_.back().kind == Container::kList && frames_.back().items++ > 0) json += ',';
}

void CallArguments::write_value(std::string_view value, std::string& json) {
  begin_item(json);
  json += value;
}

// A ',' or the end of the container: a key without ':' is dropped.
void CallArguments::finish_item(std::string& json) {
  if (state_ == State::kValueBare) write_value(bare_value(token_, parameter()), json);
  groups_ = 0;
  in_string_ = false;
  state_ = frames_.back().kind == Container::kObject ? State::kKeyStart : State::kValueStart;
}

void CallArguments::close_container(std::string& json) {
  json += frames_.back().kind == Container::kObject ? '}' : ']';
  frames_.pop_back();
  state_ = frames_.empty() ? State::kEnded : State::kValueDone;
}

// ')' closes nothing but a call that '(' opened.
bool CallArguments::closes(char character) const {
  if (character == ')') return opener_ == CallOpener::kParenthesis && frames_.size() == 1;
  return is_closing_bracket(character);
}

const DeclaredParameter* CallArguments::parameter() const {
  return tool_ != nullptr && frames_.size() == 1 ? tool_->parameter(top_key_) : nullptr;
}

}  // namespace facet
