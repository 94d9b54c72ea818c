#include "chat/whitespace.h"

#include <array>

namespace facet {
namespace {

constexpr std::array<std::string_view, 19> kWideSpaces = {
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

}  // namespace

size_t whitespace_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return (first >= 0x09 && first <= 0x0D) || (first >= 0x1C && first <= 0x20);
  for (const std::string_view space : kWideSpaces) {
    if (text.substr(0, space.size()) == space) return space.size();
  }
  return 0;
}

std::string_view without_leading_whitespace(std::string_view text) {
  while (const size_t length = whitespace_length(text)) text.remove_prefix(length);
  return text;
}

std::string_view without_outer_whitespace(std::string_view text) {
  text = without_leading_whitespace(text);
  size_t end = 0;  // just past the last character that is no whitespace
  for (size_t i = 0; i < text.size();) {
    const size_t length = whitespace_length(text.substr(i));
    i += length == 0 ? 1 : length;
    if (length == 0) end = i;
  }
  return text.substr(0, end);
}

}  // namespace facet
