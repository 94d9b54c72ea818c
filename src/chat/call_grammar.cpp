#include "chat/call_grammar.h"

#include <algorithm>
#include <array>

namespace facet {
namespace {

constexpr std::string_view kOpening = "call:";
constexpr size_t kMostFrames = 32;  // brackets open at once

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// Digits of a number, so that it ends some time and every reader can take it.
constexpr size_t kMostDigits = 20;
constexpr size_t kMostExponentDigits = 2;

/// How far `text` is a JSON number.
struct NumberState {
  bool possible = true;  // the beginning of one
  bool whole = false;    // one as it stands
  bool integer = true;   // has neither fraction nor exponent
};

NumberState number_state(std::string_view text) {
  NumberState state;
  size_t at = 0;
  const auto digits = [&](size_t most) {
    const size_t from = at;
    while (at < text.size() && at - from < most && is_digit(text[at])) ++at;
    return at - from;
  };
  const auto next_is = [&](std::string_view any) {
    return at < text.size() && any.find(text[at]) != std::string_view::npos;
  };
  if (next_is("-")) ++at;
  const size_t first = at;
  const size_t count = digits(kMostDigits);
  if (count > 1 && text[first] == '0') state.possible = false;
  state.whole = count > 0;
  if (count > 0 && next_is(".")) {
    ++at;
    state.integer = false;
    state.whole = digits(kMostDigits) > 0;
  }
  if (state.whole && next_is("eE")) {
    ++at;
    state.integer = false;
    if (next_is("+-")) ++at;
    state.whole = digits(kMostExponentDigits) > 0;
  }
  if (at != text.size()) state.possible = false;
  state.whole = state.whole && state.possible;
  return state;
}

struct Word {
  std::string_view spelling;
  std::string_view type;
};
constexpr std::array<Word, 3> kWords{{{"true", "boolean"}, {"false", "boolean"}, {"null", "null"}}};

}  // namespace

bool CallGrammar::take(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [this](char byte) { return take(byte); });
}

bool CallGrammar::take(char byte) {
  switch (step_) {
    case Step::kHead:
      return take_head(byte);
    case Step::kKey:
      return take_key(byte);
    case Step::kValue:
      return take_value(byte);
    case Step::kText: {
      if (parameter_ == nullptr || parameter_->choices.empty()) return true;
      text_ += byte;
      const auto& all = parameter_->choices;
      return std::any_of(all.begin(), all.end(), [&](const CallChoice& choice) {
        return choice.is_text && starts_with(choice.spelling, text_);
      });
    }
    case Step::kScalar:
      return take_scalar(byte);
    case Step::kNext:
      return take_next(byte);
    case Step::kEnd:
      break;
  }
  return false;
}

bool CallGrammar::take_delimiter() {
  if (step_ == Step::kText) {
    const bool bound = parameter_ != nullptr && !parameter_->choices.empty();
    if (bound) {
      const auto& all = parameter_->choices;
      const bool whole = std::any_of(all.begin(), all.end(), [&](const CallChoice& choice) {
        return choice.is_text && choice.spelling == text_;
      });
      if (!whole) return false;
    }
    step_ = Step::kNext;
    return true;
  }
  if (step_ != Step::kValue) return false;
  if (parameter_ != nullptr && !parameter_->choices.empty()) {
    const auto& all = parameter_->choices;
    if (std::none_of(all.begin(), all.end(), [](const CallChoice& c) { return c.is_text; }))
      return false;
  } else if (!value_allows("string")) {
    return false;
  }
  frames_.back().is_empty = false;
  text_.clear();
  step_ = Step::kText;
  return true;
}

bool CallGrammar::take_head(char byte) {
  text_ += byte;
  if (byte == '{' && text_.size() > kOpening.size()) {
    const std::string name = text_.substr(kOpening.size(), text_.size() - kOpening.size() - 1);
    const auto found = std::find_if(tools_->begin(), tools_->end(),
                                    [&](const CallTool& tool) { return tool.name == name; });
    if (found == tools_->end() || !starts_with(text_, kOpening)) return false;
    tool_ = &*found;
    frames_.push_back({});
    text_.clear();
    step_ = Step::kKey;
    return true;
  }
  return head_fits();
}

bool CallGrammar::head_fits() const {
  if (text_.size() <= kOpening.size()) return starts_with(kOpening, text_);
  const std::string_view name = std::string_view(text_).substr(kOpening.size());
  return starts_with(text_, kOpening) &&
         std::any_of(tools_->begin(), tools_->end(),
                     [&](const CallTool& tool) { return starts_with(tool.name, name); });
}

bool CallGrammar::take_key(char byte) {
  Frame& frame = frames_.back();
  if (byte == '}' && text_.empty() && frame.is_empty) return close(byte);
  if (byte == ':') {
    if (text_.empty() || is_used(text_)) return false;
    parameter_ = nullptr;
    if (is_bound()) {
      const auto& all = *tool_->parameters;
      const auto found = std::find_if(all.begin(), all.end(),
                                      [&](const CallParameter& p) { return p.name == text_; });
      if (found == all.end()) return false;
      parameter_ = &*found;
    }
    frame.keys.push_back(text_);
    frame.is_empty = false;
    text_.clear();
    step_ = Step::kValue;
    return true;
  }
  if (!is_key_byte(byte)) return false;
  text_ += byte;
  return key_fits();
}

bool CallGrammar::key_fits() const {
  if (!is_bound()) return true;
  const auto& all = *tool_->parameters;
  return std::any_of(all.begin(), all.end(), [&](const CallParameter& p) {
    return starts_with(p.name, text_) && !is_used(p.name);
  });
}

bool CallGrammar::take_value(char byte) {
  const bool chosen = parameter_ != nullptr && !parameter_->choices.empty();
  if (byte == ']' && frames_.back().is_list && frames_.back().is_empty) return close(byte);
  if (!chosen && (byte == '{' || byte == '[')) return open(byte);
  frames_.back().is_empty = false;
  text_.assign(1, byte);
  step_ = Step::kScalar;
  return scalar_may_go_on();
}

bool CallGrammar::open(char byte) {
  if (frames_.size() == kMostFrames || !value_allows(byte == '{' ? "object" : "array"))
    return false;
  frames_.back().is_empty = false;
  frames_.push_back({byte == '[', {}, true});
  parameter_ = nullptr;
  text_.clear();
  step_ = byte == '[' ? Step::kValue : Step::kKey;
  return true;
}

bool CallGrammar::take_scalar(char byte) {
  if ((byte == ',' || byte == '}' || byte == ']') && scalar_is_whole()) return take_next(byte);
  text_ += byte;
  return scalar_may_go_on();
}

bool CallGrammar::scalar_may_go_on() const {
  if (parameter_ != nullptr && !parameter_->choices.empty()) {
    const auto& all = parameter_->choices;
    return std::any_of(all.begin(), all.end(), [&](const CallChoice& choice) {
      return !choice.is_text && starts_with(choice.spelling, text_);
    });
  }
  if (std::any_of(kWords.begin(), kWords.end(), [&](const Word& word) {
        return starts_with(word.spelling, text_) && value_allows(word.type);
      })) {
    return true;
  }
  const NumberState number = number_state(text_);
  if (!number.possible) return false;
  return value_allows("number") || (value_allows("integer") && number.integer);
}

bool CallGrammar::scalar_is_whole() const {
  if (parameter_ != nullptr && !parameter_->choices.empty()) {
    const auto& all = parameter_->choices;
    return std::any_of(all.begin(), all.end(), [&](const CallChoice& choice) {
      return !choice.is_text && choice.spelling == text_;
    });
  }
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](const Word& word) { return word.spelling == text_; }) ||
         number_state(text_).whole;
}

bool CallGrammar::take_next(char byte) {
  if (byte != ',') return close(byte);
  if (is_bound() && !has_unused_key()) return false;
  text_.clear();
  parameter_ = nullptr;
  step_ = frames_.back().is_list ? Step::kValue : Step::kKey;
  return true;
}

bool CallGrammar::close(char byte) {
  const char wanted = frames_.back().is_list ? ']' : '}';
  if (byte != wanted || (is_bound() && lacks_required())) return false;
  frames_.pop_back();
  parameter_ = nullptr;
  text_.clear();
  step_ = frames_.empty() ? Step::kEnd : Step::kNext;
  return true;
}

bool CallGrammar::is_bound() const {
  return frames_.size() == 1 && tool_ != nullptr && tool_->parameters.has_value();
}

bool CallGrammar::is_used(const std::string& key) const {
  const std::vector<std::string>& keys = frames_.back().keys;
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

bool CallGrammar::has_unused_key() const {
  const auto& all = *tool_->parameters;
  return std::any_of(all.begin(), all.end(),
                     [&](const CallParameter& p) { return !is_used(p.name); });
}

bool CallGrammar::lacks_required() const {
  const auto& all = *tool_->parameters;
  return std::any_of(all.begin(), all.end(),
                     [&](const CallParameter& p) { return p.required && !is_used(p.name); });
}

bool CallGrammar::value_allows(std::string_view type) const {
  if (parameter_ == nullptr) return true;
  return parameter_->allows(type);
}

CallGrammar::Expects CallGrammar::expects() const {
  if (step_ == Step::kEnd) return Expects::kEnd;
  if (step_ == Step::kKey && !is_bound()) return Expects::kKey;
  const bool chosen = parameter_ != nullptr && !parameter_->choices.empty();
  if (step_ == Step::kText && !chosen) return Expects::kAnyText;
  return Expects::kBytes;
}

std::string CallGrammar::next_bytes() const {
  std::string bytes;
  const bool free_key = expects() == Expects::kKey;
  for (int byte = 0; byte < 256; ++byte) {
    const auto candidate = static_cast<char>(byte);
    if (free_key && is_key_byte(candidate)) continue;
    if (can_take(std::string_view(&candidate, 1))) bytes += candidate;
  }
  return bytes;
}

}  // namespace facet
