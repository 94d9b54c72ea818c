#include "server/chat_choice.h"

#include <algorithm>
#include <utility>

#include "server/route.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

using Kind = OutputEvent::Kind;

bool ends_chat(TokenId id) {
  return id == control::kEos || id == control::kToolResponseOpen || id == control::kTurnClose;
}

}  // namespace

ChatChoice::ChatChoice(const Tokenizer& tokenizer, const ChatShape& shape)
    : tokenizer_(tokenizer),
      shape_(shape),
      reader_(tokenizer, shape.output),
      raw_decoder_(tokenizer, ControlText::kShow),
      raw_stops_(shape.output.stop, shape.output.stop_text) {}

size_t ChatChoice::written() const { return shape_.raw ? raw_written_ : reader_.content_bytes(); }

size_t ChatChoice::held() const {
  return shape_.raw ? raw_decoder_.held() + raw_stops_.held() : reader_.held_content();
}

void ChatChoice::take(const TokenEvent& event,
                      std::vector<ChatDelta>& deltas,
                      std::vector<ListedToken>& listed) {
  if (ended()) return;
  const size_t written_before = written();
  const size_t held_before = held();
  if (event.id >= 0) {
    ++tokens_;
    const bool end_token = event.finish == FinishReason::kEndToken;
    if (reader_.in_thought() && !end_token && TokenId{event.id} != control::kChannelClose)
      ++reasoning_tokens_;
    if (shape_.raw) {
      if (!end_token) push_raw(event);
    } else {
      push(event);
    }
  }
  if (event.finish && !ended()) finish(event);
  if (event.logprob || !entered_.empty()) follow(event, written_before, held_before);
  emit(deltas);
  for (ListedToken& token : listed_) listed.push_back(std::move(token));
  listed_.clear();
}

void ChatChoice::push(const TokenEvent& event) {
  const bool end_token = event.finish == FinishReason::kEndToken;
  // An end or stop token is no text; those that the parser knows may complete a call.
  if (end_token) {
    const bool named = ending_of(event, shape_.stop_ids).stop_reason != "null";
    if (named || !ends_chat(TokenId{event.id})) return;
  }
  reader_.push(TokenId{event.id}, events_);
  if (reader_.ended()) return end_from_reader(event);
  if (!shape_.one_call || reader_.result().calls.empty()) return;
  reader_.finish(FinishCause::kEndToken, events_);
  ending_ = Ending{"tool_calls", "null", "null"};
}

void ChatChoice::push_raw(const TokenEvent& event) {
  const std::string text = raw_stops_.push(raw_decoder_.push(TokenId{event.id}));
  raw_written_ += text.size();
  if (!text.empty()) events_.push_back({Kind::kContent, text, -1});
  if (raw_stops_.matched()) ending_ = stop_string_ending(*raw_stops_.matched());
}

// A stop string, an end token, or <|turn>, which ends an answer too.
void ChatChoice::end_from_reader(const TokenEvent& event) {
  const OutputResult& result = reader_.result();
  if (result.stop_string) {
    ending_ = stop_string_ending(*result.stop_string);
    return;
  }
  TokenEvent end;
  end.id = result.end_token ? to_index(*result.end_token) : event.id;
  end.finish = FinishReason::kEndToken;
  ending_ = ending_of(end, {});
  const bool calls = !result.calls.empty() || shape_.named_call;
  if (calls) ending_->reason = "tool_calls";
}

void ChatChoice::finish(const TokenEvent& event) {
  ending_ = ending_of(event, shape_.stop_ids);
  if (shape_.raw) {
    const std::string text = raw_stops_.push(raw_decoder_.flush()) + raw_stops_.flush();
    raw_written_ += text.size();
    if (!text.empty()) events_.push_back({Kind::kContent, text, -1});
    if (raw_stops_.matched()) ending_ = stop_string_ending(*raw_stops_.matched());
    return;
  }
  FinishCause cause = FinishCause::kAbort;
  if (event.finish == FinishReason::kLength) cause = FinishCause::kLength;
  if (event.finish == FinishReason::kEndToken) {
    cause = ending_->stop_reason == "null" ? FinishCause::kEndToken : FinishCause::kStopToken;
  }
  reader_.finish(cause, events_);
  if (reader_.result().stop_string) {
    ending_ = stop_string_ending(*reader_.result().stop_string);
  } else if (cause == FinishCause::kEndToken &&
             (shape_.named_call || !reader_.result().calls.empty())) {
    ending_->reason = "tool_calls";
  }
}

// The content channel is a pipe: bytes enter with a token, may be held back, and leave in order,
// written or dropped. What entered follows from what was written and what is held.
void ChatChoice::follow(const TokenEvent& event, size_t written_before, size_t held_before) {
  size_t leaving = written() - written_before;
  const size_t after = leaving + held();
  if (after > held_before && event.logprob)
    entered_.push_back({{event.id, *event.logprob}, after - held_before, false});
  while (leaving > 0 && !entered_.empty()) {
    Entered& first = entered_.front();
    if (!std::exchange(first.listed, true)) listed_.push_back(first.token);
    const size_t bytes = std::min(leaving, first.bytes);
    first.bytes -= bytes;
    leaving -= bytes;
    if (first.bytes == 0) entered_.erase(entered_.begin());
  }
  // Dropped bytes are those held longest, all of them together.
  if (after < held_before && held() == 0) entered_.clear();
}

void ChatChoice::emit(std::vector<ChatDelta>& deltas) {
  const auto add = [&](ChatDelta::Kind kind, std::string text, int32_t call = -1) {
    if (!text.empty() || kind == ChatDelta::Kind::kCallStart)
      deltas.push_back({kind, std::move(text), call});
  };
  for (OutputEvent& event : events_) {
    const bool thought = event.kind == Kind::kThought;
    if (thought && !shape_.keep_thoughts) continue;
    if (shape_.thoughts_in_content && thought != in_think_tags_) {
      add(ChatDelta::Kind::kContent, thought ? "<think>\n" : "\n</think>\n");
      in_think_tags_ = thought;
    }
    switch (event.kind) {
      case Kind::kContent:
        add(ChatDelta::Kind::kContent, std::move(event.text));
        break;
      case Kind::kThought:
        add(shape_.thoughts_in_content ? ChatDelta::Kind::kContent : ChatDelta::Kind::kThought,
            std::move(event.text));
        break;
      case Kind::kCallStart:
        add(ChatDelta::Kind::kCallStart, std::move(event.text), event.call);
        break;
      case Kind::kCallArguments:
        if (shape_.whole_calls) {
          held_arguments_ += event.text;
        } else {
          add(ChatDelta::Kind::kCallArguments, std::move(event.text), event.call);
        }
        break;
      case Kind::kCallEnd:
        add(ChatDelta::Kind::kCallArguments, std::exchange(held_arguments_, {}), event.call);
        break;
    }
  }
  events_.clear();
  if (ended() && std::exchange(in_think_tags_, false))
    add(ChatDelta::Kind::kContent, "\n</think>\n");
}

}  // namespace facet
