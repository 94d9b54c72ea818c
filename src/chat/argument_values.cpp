#include "chat/argument_values.h"

#include <boost/json/parse.hpp>
#include <fmt/core.h>
#include <optional>

#include "base/error.h"
#include "chat/value.h"
#include "chat/whitespace.h"

namespace facet {
namespace {

namespace json = boost::json;

/// May the arguments of a call hold the JSON that `text` spells?
bool is_value(std::string_view text) {
  try {
    parse_value(fmt::format("[{}]", text));
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Leaves out the blanks between the tokens of well-formed JSON; numbers keep their digits.
std::string compact(std::string_view text) {
  std::string out;
  bool in_string = false;
  bool escaped = false;
  for (const char c : text) {
    if (in_string) {
      in_string = escaped || c != '"';
      escaped = !escaped && c == '\\';
    } else {
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
      in_string = c == '"';
    }
    out += c;
  }
  return out;
}

// The JSON `text` spells, if it is one of the types that `parameter` allows.
std::optional<std::string> spelled(std::string_view text, const DeclaredParameter& parameter) {
  text = without_outer_whitespace(text);
  if (text.empty()) return std::nullopt;
  if (is_json_number(text)) {
    const bool integral = text.find_first_of(".eE") == std::string_view::npos;
    if (!parameter.allows("number") && !(integral && parameter.allows("integer"))) {
      return std::nullopt;
    }
    return std::string(text);
  }
  const bool literal = ((text == "true" || text == "false") && parameter.allows("boolean")) ||
                       (text == "null" && parameter.allows("null"));
  if (literal) return std::string(text);
  const bool container = (text.front() == '{' && parameter.allows("object")) ||
                         (text.front() == '[' && parameter.allows("array"));
  if (container && is_value(text)) return compact(text);
  return std::nullopt;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  append_escaped(out, text);
  out += '"';
  return out;
}

}  // namespace

void append_escaped(std::string& json, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '"':
        json += "\\\"";
        break;
      case '\\':
        json += "\\\\";
        break;
      case '\b':
        json += "\\b";
        break;
      case '\f':
        json += "\\f";
        break;
      case '\n':
        json += "\\n";
        break;
      case '\r':
        json += "\\r";
        break;
      case '\t':
        json += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          json += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          json += c;
        }
    }
  }
}

bool is_json_number(std::string_view text) {
  size_t i = 0;
  const auto digits = [&] {
    const size_t first = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i > first;
  };
  if (i < text.size() && text[i] == '-') ++i;
  const size_t first = i;
  if (!digits() || (text[first] == '0' && i > first + 1)) return false;
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (!digits()) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (!digits()) return false;
  }
  // Not all that the grammar allows: an exponent may be too large for any reader.
  return i == text.size() && is_value(text);
}

std::string unquoted(std::string_view text) {
  // Raw control characters, above all line feeds, are the usual slip; they stand for themselves.
  std::string source = "\"";
  bool escaped = false;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      if (escaped) return std::string(text);
      source += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      source += c;
    }
    escaped = !escaped && c == '\\';
  }
  source += '"';
  json::error_code fault;
  const json::value value = json::parse(source, fault);
  const json::string* string = fault ? nullptr : value.if_string();
  return string != nullptr ? std::string(string->data(), string->size()) : std::string(text);
}

std::string bare_value(std::string_view text, const DeclaredParameter* parameter) {
  text = without_outer_whitespace(text);
  const bool only_string =
      parameter != nullptr && parameter->types.size() == 1 && parameter->allows("string");
  if (only_string) return quoted(text);
  if (is_json_number(text)) return std::string(text);
  if (text == "true" || text == "True") return "true";
  if (text == "false" || text == "False") return "false";
  if (text == "null" || text == "None") return "null";
  return quoted(text);
}

bool may_be_respelled(const DeclaredParameter* parameter) {
  return parameter != nullptr && !parameter->types.empty() && !parameter->allows("string");
}

std::string string_value(std::string_view text, const DeclaredParameter* parameter) {
  if (may_be_respelled(parameter)) {
    if (std::optional<std::string> json = spelled(text, *parameter)) return *json;
  }
  return quoted(text);
}

}  // namespace facet
