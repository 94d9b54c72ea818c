#include "tokenizer/splitter.h"

#include <cstdint>

namespace facet {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
/// More merges than this across a kind of place, and looking for them costs more than it saves.
constexpr size_t kMaxCrossings = 32;

std::string with_spaces(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const bool mark = text.substr(i).starts_with(kSpaceMark);
    out += mark ? ' ' : text[i];
    i += mark ? kSpaceMark.size() : 1;
  }
  return out;
}

/// Does `text` start with `wanted`, where a space in `wanted` stands for U+2581 as well?
bool starts_with(std::string_view text, std::string_view wanted) {
  for (const char c : wanted) {
    if (c == ' ' && text.starts_with(kSpaceMark)) {
      text.remove_prefix(kSpaceMark.size());
    } else if (text.starts_with(c)) {
      text.remove_prefix(1);
    } else {
      return false;
    }
  }
  return true;
}

bool ends_with(std::string_view text, std::string_view wanted) {
  for (; !wanted.empty(); wanted.remove_suffix(1)) {
    if (wanted.back() == ' ' && text.ends_with(kSpaceMark)) {
      text.remove_suffix(kSpaceMark.size());
    } else if (text.ends_with(wanted.back())) {
      text.remove_suffix(1);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

Splitter::Splitter(std::span<const std::pair<std::string_view, std::string_view>> merges) {
  size_t newlines = 0;
  size_t spaces = 0;
  for (const auto& [left, right] : merges) {
    if (left.empty() || right.empty()) continue;
    const bool at_newline = (left.back() == '\n') != (right.front() == '\n');
    const bool at_space = right.starts_with(kSpaceMark) && !left.ends_with(kSpaceMark);
    if (!at_newline && !at_space) continue;
    newlines += at_newline ? 1 : 0;
    spaces += at_space ? 1 : 0;
    if ((at_newline && newlines <= kMaxCrossings) || (at_space && spaces <= kMaxCrossings)) {
      crossings_.emplace_back(with_spaces(left), with_spaces(right));
    }
  }
  cut_at_newlines_ = newlines <= kMaxCrossings;
  cut_before_spaces_ = spaces <= kMaxCrossings;
  for (const auto& [left, right] : crossings_) {
    ends_crossing_half_[static_cast<uint8_t>(left.back())] = true;
    if (left.back() == ' ') ends_crossing_half_[static_cast<uint8_t>(kSpaceMark.back())] = true;
  }
}

Splitter::Character Splitter::character_at(std::string_view text, size_t at) {
  switch (text[at]) {
    case '\n':
      return {Kind::kNewline, 1};
    case ' ':
      return {Kind::kSpace, 1};
    case kSpaceMark.front():
      if (text.substr(at).starts_with(kSpaceMark)) return {Kind::kSpace, kSpaceMark.size()};
      return {Kind::kOther, 1};
    default:
      return {Kind::kOther, 1};
  }
}

bool Splitter::may_cut(Kind before, Kind behind) const {
  if (before == behind) return false;
  return (cut_at_newlines_ && (before == Kind::kNewline || behind == Kind::kNewline)) ||
         (cut_before_spaces_ && behind == Kind::kSpace);
}

bool Splitter::crossed(std::string_view text, size_t at) const {
  if (!ends_crossing_half_[static_cast<uint8_t>(text[at - 1])]) return false;
  for (const auto& [left, right] : crossings_) {
    if (ends_with(text.substr(0, at), left) && starts_with(text.substr(at), right)) return true;
  }
  return false;
}

size_t Splitter::part_end(std::string_view text, size_t begin) const {
  Character last = character_at(text, begin);
  for (size_t at = begin + last.length; at < text.size();) {
    const Character next = character_at(text, at);
    if (may_cut(last.kind, next.kind) && !crossed(text, at)) return at;
    last = next;
    at += next.length;
  }
  return text.size();
}

}  // namespace facet
