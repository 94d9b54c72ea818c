#include "cli/chat_session.h"

#include <algorithm>

#include "chat/output_reader.h"
#include "chat/value.h"
#include "cli/sampling_options.h"

namespace facet::cli {

ChatSession::ChatSession(Session& session,
                         const Tokenizer& tokenizer,
                         RenderOptions render,
                         SamplingParams sampling,
                         int32_t max_tokens)
    : Conversation(std::move(sampling), max_tokens),
      session_(session),
      tokenizer_(tokenizer),
      render_(render),
      generation_(session.stepper(), session.max_rows(), session.max_positions()) {
  set_thinking(render.enable_thinking);
}

RenderOptions ChatSession::render_options() const {
  RenderOptions options = render_;
  options.enable_thinking = thinking();
  return options;
}

std::vector<int32_t> ChatSession::ids_of(const std::vector<Message>& messages,
                                         const RenderOptions& options) const {
  const Value value = parse_value(messages_json(messages));
  std::vector<int32_t> ids;
  for (const TokenId id : to_ids(render(value, nullptr, options), tokenizer_))
    ids.push_back(to_index(id));
  return ids;
}

int32_t ChatSession::lasting_ids(const std::vector<int32_t>& prompt) const {
  // History shows a turn without the thought that the prompt for it ends in (server-api 13.9).
  std::vector<Message> answered = messages();
  answered.push_back({"assistant", ""});
  RenderOptions options = render_options();
  options.add_generation_prompt = false;
  const std::vector<int32_t> next = ids_of(answered, options);
  const auto parted = std::mismatch(prompt.begin(), prompt.end(), next.begin(), next.end()).first;
  return static_cast<int32_t>(parted - prompt.begin());
}

Answer ChatSession::answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going) {
  const std::vector<int32_t> prompt = ids_of(messages(), render_options());
  GenerationParams params;
  params.sampling = sampling();
  params.max_tokens = max_tokens();
  params.end_ids = end_ids(session_.checkpoint(), session_.config().eos_token_id);
  params.never_ids = never_ids(session_.checkpoint());
  params.lasting_ids = lasting_ids(prompt);
  params.keep_going = keep_going;
  OutputOptions output;
  output.thinking = thinking();
  OutputReader reader(tokenizer_, std::move(output));
  OutputParser::Events events;
  const auto show = [&] {
    for (const OutputEvent& event : events) on_piece(event.kind, event.text);
    events.clear();
  };
  const GenerationResult result = generation_.run(prompt, params, [&](int32_t id) {
    reader.push(TokenId{id}, events);
    show();
    return !reader.ended();
  });
  FinishCause cause = FinishCause::kEndToken;
  if (result.cause == GenerationEnd::kLength) cause = FinishCause::kLength;
  if (result.cause == GenerationEnd::kStopped && !reader.ended()) cause = FinishCause::kAbort;
  reader.finish(cause, events);
  show();
  return {reader.result().content, reader.result().reasoning,
          std::string(reader.result().finish_reason()), result.times};
}

}  // namespace facet::cli
