#include "server/completions_answer.h"

#include <algorithm>
#include <span>
#include <utility>

namespace facet {
namespace {

using Token = TextChoice::Token;

class CompletionsAnswer final : public Answer {
 public:
  CompletionsAnswer(CompletionsOptions options, const Tokenizer& tokenizer)
      : options_(std::move(options)),
        tokenizer_(tokenizer),
        prompt_logprobs_(options_.prompts.size()) {
    const size_t count = options_.prompts.size() * static_cast<size_t>(options_.choices_per_prompt);
    choices_.reserve(count);
    for (size_t i = 0; i < count; ++i) choices_.emplace_back(tokenizer, options_.shape);
    for (const RawPrompt& prompt : options_.prompts)
      usage_.prompt += static_cast<int32_t>(prompt.ids.size());
  }

  void start(int32_t prompt,
             int32_t cached_tokens,
             std::vector<std::optional<TokenLogprob>> prompt_logprobs) override;
  Next take(int32_t index, const TokenEvent& event) override;
  std::string release_events() override { return std::exchange(events_, {}); }
  std::string last_events() override { return closing_events(options_.style, usage()); }
  std::string body() override;

  Usage usage() const override {
    Usage usage = usage_;
    for (const Choice& choice : choices_) usage.completion += choice.state.generated();
    return usage;
  }
  std::string_view finish_reason() const override { return finish_reason_; }

 private:
  struct Choice {
    Choice(const Tokenizer& tokenizer, const TextShape& shape) : state(tokenizer, shape) {}
    TextChoice state;
    size_t tokens_sent = 0;
  };

  const RawPrompt& prompt_of(int32_t index) const {
    return options_.prompts[static_cast<size_t>(index / options_.choices_per_prompt)];
  }
  void write_logprobs(JsonWriter& json, const std::vector<Token>& tokens, size_t from) const;
  void write_top(JsonWriter& json, const Token& token) const;
  void write_ids_of(JsonWriter& json, const Choice& choice, size_t from) const;
  void write_prompt_ids(JsonWriter& json) const;
  void stream_piece(int32_t index);
  void stream_ending(int32_t index);
  void close_event(JsonWriter& json);
  size_t echoed(int32_t index) const;

  const CompletionsOptions options_;
  const Tokenizer& tokenizer_;
  std::vector<Choice> choices_;
  Usage usage_;
  std::vector<std::vector<std::optional<TokenLogprob>>> prompt_logprobs_;  // by prompt
  bool prompt_ids_sent_ = false;                                           // in a stream
  std::string events_;
  std::string_view finish_reason_;
};

void CompletionsAnswer::start(int32_t prompt,
                              int32_t cached_tokens,
                              std::vector<std::optional<TokenLogprob>> prompt_logprobs) {
  usage_.cached += cached_tokens;
  if (options_.echo) {
    const RawPrompt& raw = options_.prompts[static_cast<size_t>(prompt)];
    for (int32_t i = 0; i < options_.choices_per_prompt; ++i) {
      const int32_t index = prompt * options_.choices_per_prompt + i;
      choices_[static_cast<size_t>(index)].state.echo(raw.ids, raw.added_bos ? 1 : 0,
                                                      prompt_logprobs);
    }
  }
  prompt_logprobs_[static_cast<size_t>(prompt)] = std::move(prompt_logprobs);
}

Answer::Next CompletionsAnswer::take(int32_t index, const TokenEvent& event) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  choice.state.take(event);
  if (options_.style.stream) {
    stream_piece(index);
    if (choice.state.ended()) stream_ending(index);
  }
  if (!choice.state.ended()) return Next::kGoOn;
  finish_reason_ = choice.state.ending().reason;
  return Next::kEnough;
}

/// How many of a choice's tokens are the prompt's.
size_t CompletionsAnswer::echoed(int32_t index) const {
  const RawPrompt& prompt = prompt_of(index);
  return options_.echo ? prompt.ids.size() - (prompt.added_bos ? 1 : 0) : 0;
}

void CompletionsAnswer::write_top(JsonWriter& json, const Token& token) const {
  if (!token.logprob) {
    json.null();
    return;
  }
  // Different tokens may read the same; a name stands for the first of them, the chosen one above
  // all.
  std::vector<std::string> names = {token_name(tokenizer_, token.id, options_.style.token_names)};
  json.open_object().key(names.front()).logprob(token.logprob->logprob);
  // Those of a prompt may be more, if prompt_logprobs asked for more.
  const auto& all = token.logprob->top;
  const auto most = std::min(all.size(), static_cast<size_t>(options_.top_logprobs));
  for (const TopLogprob& top : std::span(all).first(most)) {
    std::string name = token_name(tokenizer_, top.id, options_.style.token_names);
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    json.key(name).logprob(top.logprob);
    names.push_back(std::move(name));
  }
  json.close_object();
}

void CompletionsAnswer::write_logprobs(JsonWriter& json,
                                       const std::vector<Token>& tokens,
                                       size_t from) const {
  json.open_object().key("text_offset").open_array();
  for (size_t i = from; i < tokens.size(); ++i) json.integer(tokens[i].offset);
  json.close_array().key("token_logprobs").open_array();
  for (size_t i = from; i < tokens.size(); ++i) {
    if (tokens[i].logprob) {
      json.logprob(tokens[i].logprob->logprob);
    } else {
      json.null();
    }
  }
  json.close_array().key("tokens").open_array();
  for (size_t i = from; i < tokens.size(); ++i)
    json.text(token_name(tokenizer_, tokens[i].id, options_.style.token_names));
  json.close_array().key("top_logprobs").open_array();
  for (size_t i = from; i < tokens.size(); ++i) write_top(json, tokens[i]);
  json.close_array().close_object();
}

void CompletionsAnswer::write_ids_of(JsonWriter& json, const Choice& choice, size_t from) const {
  json.key("token_ids").open_array();
  const std::vector<Token>& tokens = choice.state.tokens();
  for (size_t i = from; i < tokens.size(); ++i) json.integer(tokens[i].id);
  json.close_array();
}

std::string CompletionsAnswer::body() {
  JsonWriter json;
  json.raw(options_.style.head).key("choices").open_array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    const TextChoice& choice = choices_[i].state;
    json.open_object().member("index", index).member("text", choice.text()).key("logprobs");
    if (options_.style.logprobs) {
      write_logprobs(json, choice.tokens(), 0);
    } else {
      json.null();
    }
    write_ending(json, choice.ending());
    if (options_.style.return_token_ids) write_ids_of(json, choices_[i], echoed(index));
    json.close_object();
  }
  json.close_array().key("usage");
  write_usage(json, usage());
  if (options_.style.return_prompt_logprobs) {
    const bool one = options_.prompts.size() == 1;
    json.key("prompt_logprobs");
    if (!one) json.open_array();
    for (size_t i = 0; i < options_.prompts.size(); ++i)
      write_prompt_logprobs(json, options_.prompts[i].ids, prompt_logprobs_[i], tokenizer_);
    if (!one) json.close_array();
  }
  if (options_.style.return_token_ids) write_prompt_ids(json);
  json.close_object();
  return json.release();
}

void CompletionsAnswer::write_prompt_ids(JsonWriter& json) const {
  const bool one = options_.prompts.size() == 1;
  json.key("prompt_token_ids");
  if (!one) json.open_array();
  for (const RawPrompt& prompt : options_.prompts) write_ids(json, prompt.ids);
  if (!one) json.close_array();
}

void CompletionsAnswer::close_event(JsonWriter& json) {
  json.close_object().close_array();
  write_event_usage(json, options_.style, usage());
  if (options_.style.return_token_ids && !std::exchange(prompt_ids_sent_, true))
    write_prompt_ids(json);
  json.close_object();
  append_event(events_, json.view());
}

void CompletionsAnswer::stream_piece(int32_t index) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  const std::string& text = choice.state.text();
  const size_t count = choice.state.tokens().size();
  const bool tokens = count > 0 && (options_.style.logprobs || options_.style.return_token_ids);
  if (text.empty() && !tokens) return;
  JsonWriter json;
  json.raw(options_.style.head).key("choices").open_array().open_object().member("index", index);
  json.member("text", text).key("logprobs");
  if (options_.style.logprobs && tokens) {
    write_logprobs(json, choice.state.tokens(), 0);
  } else {
    json.null();
  }
  json.key("finish_reason").null();
  if (options_.style.return_token_ids) {
    const size_t of_prompt = echoed(index) - std::min(choice.tokens_sent, echoed(index));
    write_ids_of(json, choice, std::min(of_prompt, count));
  }
  close_event(json);
  choice.tokens_sent += count;
  choice.state.forget();
}

void CompletionsAnswer::stream_ending(int32_t index) {
  JsonWriter json;
  json.raw(options_.style.head).key("choices").open_array().open_object().member("index", index);
  json.member("text", "").key("logprobs").null();
  write_ending(json, choices_[static_cast<size_t>(index)].state.ending());
  close_event(json);
}

}  // namespace

std::unique_ptr<Answer> make_completions_answer(CompletionsOptions options,
                                                const Tokenizer& tokenizer) {
  return std::make_unique<CompletionsAnswer>(std::move(options), tokenizer);
}

}  // namespace facet
