#include "chat/python_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>

namespace facet {
namespace {

/// Length in bytes of the white space character at the start of `text`, or 0.
size_t space_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = static_cast<uint8_t>(text[0]);
  if ((first >= 0x09 && first <= 0x0D) || (first >= 0x1C && first <= 0x20)) return 1;
  const std::string_view two = text.substr(0, 2);
  if (two == "\xC2\x85" || two == "\xC2\xA0") return 2;
  const std::string_view three = text.substr(0, 3);
  if (three.size() < 3) return 0;
  if (three == "\xE1\x9A\x80" || three == "\xE2\x80\xA8" || three == "\xE2\x80\xA9" ||
      three == "\xE2\x80\xAF" || three == "\xE2\x81\x9F" || three == "\xE3\x80\x80")
    return 3;
  const auto last = static_cast<uint8_t>(three[2]);
  return three.starts_with("\xE2\x80") && last >= 0x80 && last <= 0x8A ? 3 : 0;
}

std::string_view trim_right(std::string_view text) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 3 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80)
      --start;
    const size_t length = text.size() - start;
    if (space_length(text.substr(start)) != length) return text;
    text.remove_suffix(length);
  }
  return text;
}

std::string float_text(double value) {
  // Room for 17 digits, a sign, a point and the zeros of 0.0001.
  std::array<char, 64> buffer{};
  char* const begin = buffer.data();
  char* const limit = begin + buffer.size();
  const char* end = std::to_chars(begin, limit, value, std::chars_format::scientific).ptr;
  const std::string scientific(begin, end);
  const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
  if (exponent < -4 || exponent >= 16) return scientific;
  end = std::to_chars(begin, limit, value, std::chars_format::fixed).ptr;
  std::string plain(begin, end);
  if (plain.find('.') == std::string::npos) plain += ".0";
  return plain;
}

void append_repr(std::string& out, std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (const char c : text) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += quote;
}

void append_repr(std::string& out, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kString:
      return append_repr(out, std::string_view(value.string()));
    case Value::Kind::kArray: {
      std::string_view between;
      out += '[';
      for (const Value& element : value.array()) {
        out += between;
        append_repr(out, element);
        between = ", ";
      }
      out += ']';
      return;
    }
    case Value::Kind::kObject: {
      std::string_view between;
      out += '{';
      for (const Member& member : value.object()) {
        out += between;
        append_repr(out, std::string_view(member.name));
        out += ": ";
        append_repr(out, member.value);
        between = ", ";
      }
      out += '}';
      return;
    }
    default:
      out += python_text(value);
  }
}

}  // namespace

std::string_view trim_left(std::string_view text) {
  while (const size_t length = space_length(text)) text.remove_prefix(length);
  return text;
}

std::string_view trim(std::string_view text) { return trim_right(trim_left(text)); }

std::string number_text(const Number& number) {
  if (!number.is_integer()) return float_text(number.as_double());
  return number.text == "-0" ? "0" : number.text;
}

std::string python_text(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNull:
      return "None";
    case Value::Kind::kBool:
      return value.boolean() ? "True" : "False";
    case Value::Kind::kNumber:
      return number_text(value.number());
    case Value::Kind::kString:
      return value.string();
    default: {
      std::string out;
      append_repr(out, value);
      return out;
    }
  }
}

}  // namespace facet
