#include "server/raw_prompts.h"

#include <fmt/core.h>

#include "server/sampling_fields.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

constexpr size_t kMostPrompts = 64;

void add_bos(RawPrompt& prompt) {
  const int32_t bos = to_index(control::kBos);
  if (!prompt.ids.empty() && prompt.ids.front() == bos) return;
  prompt.ids.insert(prompt.ids.begin(), bos);
  prompt.added_bos = true;
}

RawPrompt read_one(const Value& value,
                   const std::string& path,
                   std::optional<bool> special,
                   const ServedModel& model) {
  if (value.is_string())
    return encode_raw(value.string(), special.value_or(true) ? Bos::kAdded : Bos::kAsWritten,
                      model);
  if (!value.is_array()) {
    throw ApiError(ApiCode::kInvalidType,
                   fmt::format("{}: found {}, wanted a string or an array of token ids", path,
                               kind_name(value)),
                   path);
  }
  RawPrompt prompt;
  prompt.ids = read_ids(value.array(), path, model);
  if (special.value_or(false)) add_bos(prompt);
  return prompt;
}

}  // namespace

RawPrompt encode_raw(std::string_view text, Bos bos, const ServedModel& model) {
  RawPrompt prompt;
  for (const TokenId id : model.tokenizer.encode(text, ControlTokens::kRecognise))
    prompt.ids.push_back(to_index(id));
  if (bos == Bos::kAdded) add_bos(prompt);
  return prompt;
}

std::vector<RawPrompt> read_raw_prompts(Fields& fields,
                                        std::string_view name,
                                        const ServedModel& model) {
  const Value& value = fields.required(name);
  const std::optional<bool> special = fields.boolean("add_special_tokens");
  const bool several = value.is_array() && !value.array().empty() &&
                       (value.array().front().is_string() || value.array().front().is_array());
  std::vector<RawPrompt> prompts;
  if (!several) {
    prompts.push_back(read_one(value, std::string(name), special, model));
  } else {
    const Value::Array& list = value.array();
    if (list.size() > kMostPrompts) {
      fields.fail(ApiCode::kInvalidValue, name,
                  fmt::format("found {} prompts, wanted at most {}", list.size(), kMostPrompts));
    }
    for (size_t i = 0; i < list.size(); ++i)
      prompts.push_back(read_one(list[i], fmt::format("{}[{}]", name, i), special, model));
  }
  for (const RawPrompt& prompt : prompts) {
    if (prompt.ids.empty()) fields.fail(ApiCode::kInvalidValue, name, "a prompt has no token");
  }
  return prompts;
}

}  // namespace facet
