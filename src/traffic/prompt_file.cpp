#include "traffic/prompt_file.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "base/mapped_file.h"

namespace facet {
namespace {

namespace json = boost::json;

constexpr int64_t kMostBytes = int64_t{1} << 30;
constexpr int64_t kMostTokens = 1 << 24;

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::kBadInput, message); }

std::string prompt_text(const json::value& value) {
  const json::string* text = value.if_string();
  if (text == nullptr || text->empty()) refuse("prompt: wanted a string that is not empty");
  return std::string(*text);
}

std::string chat_messages(const json::value& value) {
  const json::array* messages = value.if_array();
  const bool sound = messages != nullptr && !messages->empty() &&
                     std::all_of(messages->begin(), messages->end(),
                                 [](const json::value& one) { return one.is_object(); });
  if (!sound) refuse("messages: wanted an array of objects that is not empty");
  return json::serialize(*messages);
}

int32_t token_count(const json::value& value) {
  const int64_t* count = value.if_int64();
  if (count == nullptr || *count < 1 || *count > kMostTokens) {
    refuse(fmt::format("max_tokens: found {}, wanted 1 to {}", json::serialize(value).substr(0, 40),
                       kMostTokens));
  }
  return static_cast<int32_t>(*count);
}

FilePrompt parse_line(std::string_view line, int32_t max_tokens) {
  json::error_code fault;
  const json::value value = json::parse(line, fault);
  if (fault) refuse(fmt::format("is no JSON: {}", fault.message()));
  const json::object* object = value.if_object();
  if (object == nullptr) refuse("wanted an object");
  const json::value* prompt = object->if_contains("prompt");
  const json::value* messages = object->if_contains("messages");
  if ((prompt == nullptr) == (messages == nullptr))
    refuse("wanted exactly one of prompt and messages");
  FilePrompt result;
  if (prompt != nullptr) result.text = prompt_text(*prompt);
  if (messages != nullptr) result.messages = chat_messages(*messages);
  const json::value* count = object->if_contains("max_tokens");
  result.max_tokens = count == nullptr ? max_tokens : token_count(*count);
  return result;
}

}  // namespace

std::vector<FilePrompt> parse_prompts(std::string_view jsonl,
                                      const std::string& place,
                                      int32_t max_tokens) {
  std::vector<FilePrompt> prompts;
  for (int64_t number = 1; !jsonl.empty(); ++number) {
    const size_t end = std::min(jsonl.find('\n'), jsonl.size());
    const std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    in_place(fmt::format("{}: line {}", place, number),
             [&] { prompts.push_back(parse_line(line, max_tokens)); });
  }
  if (prompts.empty()) throw Error(ErrorCode::kBadInput, "holds no prompt", place);
  return prompts;
}

std::vector<FilePrompt> read_prompts(const std::string& path, int32_t max_tokens) {
  return parse_prompts(read_file(path, kMostBytes), path, max_tokens);
}

}  // namespace facet
