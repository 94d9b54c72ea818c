// /tokenize, /detokenize, /apply-template, /tokenizer_info (server-api 10.3).

#include <utility>

#include "server/chat_fields.h"
#include "server/route.h"
#include "server/token_text.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

std::vector<int32_t> chat_ids(Fields& fields, const RouteContext& context) {
  const ServedModel& model = context.model;
  const ChatPrompt prompt = read_chat_prompt(fields, model, context.settings);
  std::vector<int32_t> ids;
  for (const TokenId id : to_ids(prompt.items, model.tokenizer)) ids.push_back(to_index(id));
  return ids;
}

/// A field is of its type in each form, also where it has no effect. Reads by itself: such fields
/// stay unknown to the form, and --strict-fields refuses them.
void check_types(const Value& body) {
  Fields fields(body);
  for (const char* name : {"prompt", "content"}) fields.string(name);
  for (const char* name : {"add_special_tokens", "return_token_strs", "add_special", "with_pieces"})
    fields.boolean(name);
  check_chat_types(fields);
}

/// llama-server's shape: {"content","add_special","with_pieces"}.
std::string tokenize_content(Fields& fields, const RouteContext& context) {
  const ServedModel& model = context.model;
  const std::string& content = *fields.string("content");
  const Bos bos = fields.flag("add_special") ? Bos::kAdded : Bos::kAsWritten;
  const bool pieces = fields.flag("with_pieces");
  finish_fields(fields, context.settings, "/tokenize");
  const RawPrompt prompt = encode_raw(content, bos, model);
  JsonWriter json;
  json.open_object().key("tokens").open_array();
  for (const int32_t id : prompt.ids) {
    if (!pieces) {
      json.integer(id);
      continue;
    }
    json.open_object().member("id", id);
    json.member("piece", token_name(model.tokenizer, id, TokenNames::kText)).close_object();
  }
  json.close_array().close_object();
  return json.release();
}

std::string_view name_of(TokenId id, const ServedModel& model) {
  return model.tokenizer.control_text(id);
}

}  // namespace

std::string tokenize_body(const Value& body, const RouteContext& context) {
  const ServedModel& model = context.model;
  Fields fields(body);
  read_model(fields, context.settings);
  check_types(body);
  if (fields.find("content") != nullptr) return tokenize_content(fields, context);
  std::vector<int32_t> ids;
  if (fields.find("messages") != nullptr) {
    ids = chat_ids(fields, context);
  } else {
    fields.required("prompt");
    const std::string& prompt = *fields.string("prompt");
    const bool special = fields.boolean("add_special_tokens").value_or(true);
    ids = encode_raw(prompt, special ? Bos::kAdded : Bos::kAsWritten, model).ids;
  }
  const bool names = fields.flag("return_token_strs");
  finish_fields(fields, context.settings, "/tokenize");
  JsonWriter json;
  json.open_object().member("count", static_cast<int64_t>(ids.size()));
  json.member("max_model_len", model.max_model_len).key("tokens");
  write_ids(json, ids);
  json.key("token_strs");
  if (names) {
    json.open_array();
    for (const int32_t id : ids) json.text(token_name(model.tokenizer, id, TokenNames::kText));
    json.close_array();
  } else {
    json.null();
  }
  json.close_object();
  return json.release();
}

std::string detokenize_body(const Value& body, const RouteContext& context) {
  const ServedModel& model = context.model;
  Fields fields(body);
  read_model(fields, context.settings);
  fields.required("tokens");
  const std::vector<int32_t> ids = read_ids(*fields.array("tokens"), "tokens", model);
  finish_fields(fields, context.settings, "/detokenize");
  std::vector<TokenId> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) tokens.push_back(TokenId{id});
  const std::string text = model.tokenizer.decode(tokens, ControlText::kShow);
  JsonWriter json;
  json.open_object().member("prompt", text).member("content", text).close_object();
  return json.release();
}

std::string apply_template_body(const Value& body, const RouteContext& context) {
  Fields fields(body);
  read_model(fields, context.settings);
  const ChatPrompt prompt = read_chat_prompt(fields, context.model, context.settings);
  finish_fields(fields, context.settings, "/apply-template");
  JsonWriter json;
  json.open_object().member("prompt", to_text(prompt.items)).close_object();
  return json.release();
}

std::string tokenizer_info_body(const RouteContext& context) {
  const ServedModel& model = context.model;
  JsonWriter json;
  json.open_object().member("tokenizer_class", "GemmaTokenizer");
  json.member("bos_token", name_of(control::kBos, model));
  json.member("eos_token", name_of(control::kEos, model));
  json.member("pad_token", name_of(control::kPad, model)).key("chat_template");
  if (model.chat_template.empty()) {
    json.null();
  } else {
    json.text(model.chat_template);
  }
  json.member("vocab_size", model.tokenizer.size()).close_object();
  return json.release();
}

}  // namespace facet
