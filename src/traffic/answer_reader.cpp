#include "traffic/answer_reader.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <charconv>
#include <optional>

namespace facet {
namespace {

namespace json = boost::json;

// Within a JSON text the quotes of these are escaped, so that they are only found as names.
constexpr std::string_view kCount = "\"completion_tokens\":";
constexpr std::string_view kNoChoices = "\"choices\":[]";
constexpr std::string_view kReason = "\"finish_reason\":";
constexpr std::string_view kError = "{\"error\":";

std::string_view without_blanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return text;
}

std::optional<int32_t> count_in(std::string_view data) {
  const size_t at = data.rfind(kCount);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = without_blanks(data.substr(at + kCount.size()));
  int32_t count = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  return fault == std::errc() ? std::optional(count) : std::nullopt;
}

/// "length" of "length" and of {"type":"length"}; empty for null.
std::string_view reason_in(std::string_view data) {
  const size_t at = data.rfind(kReason);
  if (at == std::string_view::npos) return {};
  std::string_view value = without_blanks(data.substr(at + kReason.size()));
  if (value.starts_with('{')) {
    const size_t colon = value.find(':');
    if (colon == std::string_view::npos) return {};
    value = without_blanks(value.substr(colon + 1));
  }
  if (!value.starts_with('"')) return {};
  value.remove_prefix(1);
  return value.substr(0, value.find('"'));
}

/// Does an event of a chat hold text? For servers that count tokens at the end only.
bool has_text(std::string_view data) {
  for (const std::string_view name : {"\"content\":", "\"reasoning_content\":", "\"reasoning\":"}) {
    const size_t at = data.find(name);
    if (at == std::string_view::npos) continue;
    const std::string_view value = without_blanks(data.substr(at + name.size()));
    if (value.starts_with('"') && !value.starts_with("\"\"")) return true;
  }
  return false;
}

const json::value* member(const json::value* from, std::string_view name) {
  const json::object* object = from == nullptr ? nullptr : from->if_object();
  return object == nullptr ? nullptr : object->if_contains(name);
}

std::optional<int32_t> number(const json::value* value) {
  const int64_t* found = value == nullptr ? nullptr : value->if_int64();
  return found == nullptr ? std::nullopt : std::optional(static_cast<int32_t>(*found));
}

}  // namespace

void AnswerReader::add(int32_t total, double at_s) {
  if (total <= counted_) return;
  // Events that one read brought came together.
  if (record_.arrivals.empty() || record_.arrivals.back().at_s < at_s)
    record_.arrivals.push_back({at_s, 0});
  record_.arrivals.back().tokens += total - counted_;
  counted_ = total;
}

void AnswerReader::take(std::string_view data, double at_s) {
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  if (data.starts_with(kError)) {
    if (error_.empty()) error_ = error_message(data);
    return;
  }
  const std::optional<int32_t> count = count_in(data);
  // The event that only sums up comes with the last token, or after it.
  const bool sums_up = data.find(kNoChoices) != std::string_view::npos;
  if (count) last_ = data;
  if (count && !sums_up) {
    add(*count, at_s);
  } else if (!count && has_text(data)) {
    add(counted_ + 1, at_s);
  }
  if (const std::string_view reason = reason_in(data); !reason.empty()) finish_reason_ = reason;
}

void AnswerReader::finish() {
  record_.output_tokens = counted_;
  json::error_code fault;
  const json::value event = json::parse(last_, fault);
  if (fault) return;
  const json::value* sums = member(&event, "meta_info");
  if (sums == nullptr) sums = member(&event, "usage");
  record_.output_tokens = number(member(sums, "completion_tokens")).value_or(counted_);
  if (const auto prompt = number(member(sums, "prompt_tokens"))) record_.input_tokens = *prompt;
  const json::value* cached = member(sums, "cached_tokens");
  if (cached == nullptr) cached = member(member(sums, "prompt_tokens_details"), "cached_tokens");
  record_.cached_tokens = number(cached).value_or(0);
}

std::string error_message(std::string_view body) {
  json::error_code fault;
  const json::value value = json::parse(body, fault);
  if (fault) return std::string(body.substr(0, 200));
  const json::value* error = member(&value, "error");
  const json::value* message = member(error != nullptr ? error : &value, "message");
  if (message != nullptr && message->is_string()) return std::string(message->get_string());
  if (error != nullptr && error->is_string()) return std::string(error->get_string());
  return std::string(body.substr(0, 200));
}

}  // namespace facet
