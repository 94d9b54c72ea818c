#include "chat/call_guide.h"

#include <string>
#include <string_view>
#include <utility>

#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

constexpr std::string_view kThoughtOpening = "thought\n";

bool ends_answer(TokenId id) {
  return id == control::kEos || id == control::kToolResponseOpen || id == control::kTurnClose ||
         id == control::kTurnOpen;
}

}  // namespace

CallGuide::CallGuide(const TokenTable& table, CallGuideOptions options)
    : table_(table), options_(std::move(options)), set_(table.size()) {
  if (options_.open_thought) state_ = State::kThought;
}

CallGuide::Rule CallGuide::only(std::initializer_list<TokenId> ids) {
  if (ids.size() == 1) return {Rule::Kind::kForced, *ids.begin(), {}};
  set_ = TokenSet(table_.size());
  for (const TokenId id : ids) set_.add(id);
  return {Rule::Kind::kOnly, TokenId{-1}, set_.words()};
}

CallGuide::Rule CallGuide::next() {
  switch (state_) {
    case State::kStart:
      if (!options_.required) return {};
      if (options_.thinking) return only({control::kChannelOpen, control::kToolCallOpen});
      return only({control::kToolCallOpen});
    case State::kMustCall:
      return only({control::kToolCallOpen});
    case State::kChannelName:
    case State::kThought:
      return within_thought();
    case State::kCall:
      return within_call();
    case State::kAfterCall:
      if (options_.single_call) return only({control::kToolResponseOpen});
      return only({control::kToolCallOpen, control::kToolResponseOpen});
    case State::kContent:
    case State::kEnd:
      break;
  }
  return {};
}

CallGuide::Rule CallGuide::within_thought() {
  if (closing_) return only({control::kChannelClose});
  if (options_.thought_budget && thought_tokens_ >= *options_.thought_budget) {
    return only({table_.line_feed()});
  }
  if (!options_.required) return {};
  // An answer that ended here would hold no call.
  set_ = table_.text();
  for (const TokenId id :
       {control::kChannelClose, control::kToolCallOpen, control::kStringDelimiter})
    set_.add(id);
  return {Rule::Kind::kOnly, TokenId{-1}, set_.words()};
}

CallGuide::Rule CallGuide::within_call() {
  const CallGrammar::Expects expects = call_->expects();
  if (expects == CallGrammar::Expects::kEnd) return only({control::kToolCallClose});
  if (expects == CallGrammar::Expects::kAnyText) {
    set_ = table_.text();
  } else {
    set_ = expects == CallGrammar::Expects::kKey ? table_.keys() : TokenSet(table_.size());
    if (expects == CallGrammar::Expects::kKey) {
      for (const TokenId id : table_.key_ends()) {
        if (call_->can_take(table_.bytes_of(id))) set_.add(id);
      }
    }
    for (const char byte : call_->next_bytes()) {
      for (const TokenId id : table_.beginning_with(byte)) {
        if (call_->can_take(table_.bytes_of(id))) set_.add(id);
      }
    }
  }
  if (call_->can_take_delimiter()) set_.add(control::kStringDelimiter);
  return {Rule::Kind::kOnly, TokenId{-1}, set_.words()};
}

void CallGuide::accept(TokenId id) {
  if (state_ == State::kEnd) return;
  if (ends_answer(id) && !(state_ == State::kStart && id == control::kTurnOpen)) {
    state_ = State::kEnd;
  } else if (state_ == State::kCall) {
    accept_in_call(id);
  } else if (id == control::kToolCallOpen) {
    open_call();
  } else if (state_ == State::kStart) {
    accept_at_start(id);
  } else {
    accept_in_prose(id);
  }
}

void CallGuide::open_call() {
  state_ = State::kContent;
  if (options_.tools.empty()) return;
  call_.emplace(options_.tools);
  state_ = State::kCall;
}

void CallGuide::accept_at_start(TokenId id) {
  if (id == control::kChannelOpen) {
    state_ = State::kChannelName;
    return;
  }
  start_ += table_.bytes_of(id);
  const std::string_view opening = kThoughtOpening.substr(0, start_.size());
  if (options_.thinking && start_ == kThoughtOpening) {
    state_ = State::kThought;
  } else if (!options_.thinking || start_ != opening) {
    state_ = State::kContent;
  }
}

void CallGuide::accept_in_prose(TokenId id) {
  const bool channel = state_ == State::kChannelName || state_ == State::kThought;
  if (channel && id == control::kChannelClose) {
    closing_ = false;
    state_ = options_.required ? State::kMustCall : State::kContent;
  } else if (state_ == State::kChannelName) {
    if (table_.bytes_of(id).find('\n') != std::string_view::npos) state_ = State::kThought;
  } else if (state_ == State::kThought) {
    ++thought_tokens_;
    if (options_.thought_budget && thought_tokens_ > *options_.thought_budget) closing_ = true;
  } else if (id == control::kChannelOpen) {
    state_ = State::kChannelName;
  }
}

void CallGuide::accept_in_call(TokenId id) {
  if (id == control::kToolCallClose) {
    call_.reset();
    state_ = State::kAfterCall;
    return;
  }
  const bool fits =
      id == control::kStringDelimiter ? call_->take_delimiter() : call_->take(table_.bytes_of(id));
  // Only if what next() said was not kept to; nothing is known of the call any more.
  if (!fits) state_ = State::kContent;
}

}  // namespace facet
