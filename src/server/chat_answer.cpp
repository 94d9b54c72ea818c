#include "server/chat_answer.h"

#include <utility>

namespace facet {
namespace {

using Kind = ChatDelta::Kind;

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(ChatAnswerOptions options, const Tokenizer& tokenizer)
      : options_(std::move(options)), tokenizer_(tokenizer) {
    choices_.reserve(static_cast<size_t>(options_.choices));
    for (int32_t i = 0; i < options_.choices; ++i) choices_.emplace_back(tokenizer, options_.shape);
    usage_.prompt = static_cast<int32_t>(options_.prompt.size());
    // A long prompt that nobody asks for again is not held for as long as the answer takes.
    const AnswerStyle& style = options_.style;
    if (!style.return_token_ids && !style.return_prompt_logprobs)
      std::vector<int32_t>().swap(options_.prompt);
  }

  void start(int32_t /*prompt*/,
             int32_t cached_tokens,
             std::vector<std::optional<TokenLogprob>> prompt_logprobs) override {
    usage_.cached = cached_tokens;
    prompt_logprobs_ = std::move(prompt_logprobs);
  }

  Next take(int32_t index, const TokenEvent& event) override;
  std::string release_events() override { return std::exchange(events_, {}); }
  std::string last_events() override { return closing_events(options_.style, usage()); }
  std::string body() override;

  Usage usage() const override {
    Usage usage = usage_;
    for (const Choice& choice : choices_) {
      usage.completion += choice.state.tokens();
      usage.reasoning += choice.state.reasoning_tokens();
    }
    return usage;
  }
  std::string_view finish_reason() const override { return finish_reason_; }

 private:
  struct Choice {
    Choice(const Tokenizer& tokenizer, const ChatShape& shape) : state(tokenizer, shape) {}
    ChatChoice state;
    std::vector<std::string> call_ids;
    std::vector<int32_t> ids;  // of a stream: since the last event
    // Of a plain answer:
    std::string content;
    std::string thought;
    std::vector<ListedToken> listed;
  };

  void collect(Choice& choice, std::vector<ChatDelta>& deltas, std::vector<ListedToken>& listed);
  void stream_roles();
  void stream_deltas(int32_t index,
                     std::vector<ChatDelta>& deltas,
                     std::vector<ListedToken>& listed);
  void stream_ending(int32_t index);
  void write_delta(JsonWriter& json, const ChatDelta& delta, Choice& choice);
  void write_thought(JsonWriter& json, std::string_view text) const;
  void write_message(JsonWriter& json, const Choice& choice) const;
  template <typename Body>
  void add_event(int32_t index, const Body& write_choice);

  ChatAnswerOptions options_;
  const Tokenizer& tokenizer_;
  std::vector<Choice> choices_;
  Usage usage_;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs_;
  bool roles_sent_ = false;
  bool prompt_sent_ = false;  // the first event of a stream lists its ids
  std::string events_;
  std::string_view finish_reason_;
};

Answer::Next ChatAnswer::take(int32_t index, const TokenEvent& event) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  std::vector<ChatDelta> deltas;
  std::vector<ListedToken> listed;
  if (options_.style.return_token_ids && event.id >= 0) choice.ids.push_back(event.id);
  choice.state.take(event, deltas, listed);
  for (const ChatDelta& delta : deltas) {
    if (delta.kind == Kind::kCallStart) choice.call_ids.push_back(fresh_id("call_"));
  }
  if (options_.style.stream) {
    if (!std::exchange(roles_sent_, true)) stream_roles();
    stream_deltas(index, deltas, listed);
    if (choice.state.ended()) stream_ending(index);
  } else {
    collect(choice, deltas, listed);
  }
  if (!choice.state.ended()) return Next::kGoOn;
  finish_reason_ = choice.state.ending().reason;
  return Next::kEnough;
}

// ---- Plain

void ChatAnswer::collect(Choice& choice,
                         std::vector<ChatDelta>& deltas,
                         std::vector<ListedToken>& listed) {
  for (const ChatDelta& delta : deltas) {
    if (delta.kind == Kind::kContent) choice.content += delta.text;
    if (delta.kind == Kind::kThought) choice.thought += delta.text;
  }
  for (ListedToken& token : listed) choice.listed.push_back(std::move(token));
}

void ChatAnswer::write_thought(JsonWriter& json, std::string_view text) const {
  if (options_.reasoning_field != ReasoningField::kReasoning)
    json.member("reasoning_content", text);
  if (options_.reasoning_field != ReasoningField::kReasoningContent) json.member("reasoning", text);
}

void ChatAnswer::write_message(JsonWriter& json, const Choice& choice) const {
  const std::vector<OutputCall>& calls = choice.state.calls();
  json.key("message").open_object().member("role", "assistant").key("content");
  if (choice.content.empty() && !calls.empty()) {
    json.null();
  } else {
    json.text(choice.content);
  }
  json.key("refusal").null();
  if (!choice.thought.empty()) write_thought(json, choice.thought);
  if (!calls.empty()) {
    json.key("tool_calls").open_array();
    for (size_t i = 0; i < calls.size(); ++i) {
      json.open_object().member("id", choice.call_ids[i]).member("type", "function");
      json.key("function").open_object().member("name", calls[i].name);
      json.member("arguments", calls[i].arguments).close_object().close_object();
    }
    json.close_array();
  }
  json.close_object();
}

std::string ChatAnswer::body() {
  JsonWriter json;
  json.raw(options_.style.head).key("choices").open_array();
  int32_t index = 0;
  for (const Choice& choice : choices_) {
    json.open_object().member("index", index++);
    write_message(json, choice);
    json.key("logprobs");
    if (options_.style.logprobs) {
      write_chat_logprobs(json, choice.listed, tokenizer_, options_.style.token_names);
    } else {
      json.null();
    }
    write_ending(json, choice.state.ending());
    if (options_.style.return_token_ids) {
      json.key("token_ids");
      write_ids(json, choice.ids);
    }
    json.close_object();
  }
  json.close_array().key("usage");
  write_usage(json, usage());
  if (options_.style.return_prompt_logprobs) {
    json.key("prompt_logprobs");
    write_prompt_logprobs(json, options_.prompt, prompt_logprobs_, tokenizer_);
  }
  if (options_.style.return_token_ids) {
    json.key("prompt_token_ids");
    write_ids(json, options_.prompt);
  }
  json.close_object();
  return json.release();
}

// ---- Streamed

template <typename Body>
void ChatAnswer::add_event(int32_t index, const Body& write_choice) {
  JsonWriter json;
  json.raw(options_.style.head).key("choices").open_array().open_object().member("index", index);
  write_choice(json);
  json.close_object().close_array();
  write_event_usage(json, options_.style, usage());
  if (options_.style.return_token_ids && !std::exchange(prompt_sent_, true)) {
    json.key("prompt_token_ids");
    write_ids(json, options_.prompt);
  }
  json.close_object();
  append_event(events_, json.view());
}

void ChatAnswer::stream_roles() {
  for (int32_t i = 0; i < options_.choices; ++i) {
    add_event(i, [&](JsonWriter& json) {
      json.key("delta").open_object().member("role", "assistant").member("content", "");
      json.close_object().key("logprobs").null().key("finish_reason").null();
    });
  }
}

void ChatAnswer::write_delta(JsonWriter& json, const ChatDelta& delta, Choice& choice) {
  switch (delta.kind) {
    case Kind::kContent:
      json.member("content", delta.text);
      return;
    case Kind::kThought:
      return write_thought(json, delta.text);
    case Kind::kCallStart:
      json.key("tool_calls").open_array().open_object().member("index", delta.call);
      json.member("id", choice.call_ids[static_cast<size_t>(delta.call)]);
      json.member("type", "function").key("function").open_object().member("name", delta.text);
      json.member("arguments", "").close_object().close_object().close_array();
      return;
    case Kind::kCallArguments:
      json.key("tool_calls").open_array().open_object().member("index", delta.call);
      json.key("function").open_object().member("arguments", delta.text);
      json.close_object().close_object().close_array();
      return;
  }
}

void ChatAnswer::stream_deltas(int32_t index,
                               std::vector<ChatDelta>& deltas,
                               std::vector<ListedToken>& listed) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  for (const ChatDelta& delta : deltas) {
    add_event(index, [&](JsonWriter& json) {
      json.key("delta").open_object();
      write_delta(json, delta, choice);
      json.close_object().key("logprobs");
      if (options_.style.logprobs && delta.kind == Kind::kContent && !listed.empty()) {
        write_chat_logprobs(json, std::exchange(listed, {}), tokenizer_,
                            options_.style.token_names);
      } else {
        json.null();
      }
      json.key("finish_reason").null();
      if (options_.style.return_token_ids && !choice.ids.empty()) {
        json.key("token_ids");
        write_ids(json, std::exchange(choice.ids, {}));
      }
    });
  }
}

void ChatAnswer::stream_ending(int32_t index) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  add_event(index, [&](JsonWriter& json) {
    json.key("delta").open_object().close_object().key("logprobs").null();
    write_ending(json, choice.state.ending());
    if (options_.style.return_token_ids && !choice.ids.empty()) {
      json.key("token_ids");
      write_ids(json, std::exchange(choice.ids, {}));
    }
  });
}

}  // namespace

std::unique_ptr<Answer> make_chat_answer(ChatAnswerOptions options, const Tokenizer& tokenizer) {
  return std::make_unique<ChatAnswer>(std::move(options), tokenizer);
}

}  // namespace facet
