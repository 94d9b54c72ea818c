#include "server/answer.h"

namespace facet {

void write_usage(JsonWriter& json, const Usage& usage) {
  json.open_object();
  json.member("prompt_tokens", usage.prompt).member("completion_tokens", usage.completion);
  json.member("total_tokens", usage.prompt + usage.completion);
  json.key("prompt_tokens_details").open_object();
  json.member("cached_tokens", usage.cached).member("image_tokens", 0).close_object();
  json.key("completion_tokens_details").open_object();
  json.member("reasoning_tokens", usage.reasoning).member("accepted_prediction_tokens", 0);
  json.member("rejected_prediction_tokens", 0).close_object();
  json.close_object();
}

void write_event_usage(JsonWriter& json, const AnswerStyle& style, const Usage& usage) {
  if (style.continuous_usage) {
    json.key("usage");
    write_usage(json, usage);
  } else if (style.include_usage) {
    json.key("usage").null();
  }
}

std::string closing_events(const AnswerStyle& style, const Usage& usage) {
  std::string out;
  if (style.include_usage) {
    JsonWriter json;
    json.raw(style.head).key("choices").open_array().close_array().key("usage");
    write_usage(json, usage);
    json.close_object();
    append_event(out, json.view());
  }
  out += kDoneEvent;
  return out;
}

void append_event(std::string& out, std::string_view json) {
  out += "data: ";
  out += json;
  out += "\n\n";
}

void write_ending(JsonWriter& json, const Ending& ending) {
  json.member("finish_reason", ending.reason);
  json.key("stop_reason").raw(ending.stop_reason);
  json.key("matched_stop").raw(ending.matched_stop);
}

std::string json_text(std::string_view text) {
  JsonWriter json;
  json.text(text);
  return json.release();
}

}  // namespace facet
