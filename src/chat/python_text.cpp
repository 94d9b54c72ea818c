#include "chat/python_text.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <string_view>

namespace facet {
namespace {

std::string float_text(double value) {
  // Room for 17 digits, a sign, a point and the zeros of 0.0001.
  std::array<char, 64> buffer{};
  char* const begin = buffer.data();
  char* const limit = begin + buffer.size();
  char* end = std::to_chars(begin, limit, value, std::chars_format::scientific).ptr;
  std::string scientific(begin, end);
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
