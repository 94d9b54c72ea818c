#include "chat/case_map.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/text.h"
#include "chat/case_tables.h"

namespace facet {
namespace {

constexpr uint32_t kCapitalSigma = 0x3A3;
constexpr std::string_view kSmallSigma = "\xCF\x83";
constexpr std::string_view kFinalSigma = "\xCF\x82";

/// The entry of an ascending table whose range could hold `code`: the last that starts at or
/// before it.
template <typename Range>
const Range* candidate(std::span<const Range> table, uint32_t code) {
  const auto after =
      std::upper_bound(table.begin(), table.end(), code,
                       [](uint32_t wanted, const Range& range) { return wanted < range.first; });
  return after == table.begin() ? nullptr : &*(after - 1);
}

bool contains(std::span<const CodeRange> table, uint32_t code) {
  const CodeRange* range = candidate(table, code);
  return range != nullptr && code <= range->last;
}

/// The character at the start of `text`, which is well-formed and `length` bytes long.
uint32_t decode(std::string_view text, size_t length) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  if (length == 1) return byte(0);
  uint32_t code = byte(0) & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) code = code << 6 | (byte(i) & 0x3FU);
  return code;
}

void append_mapped(std::string& out,
                   uint32_t code,
                   std::span<const CaseRange> ranges,
                   std::span<const SpecialCase> specials) {
  const auto special = std::lower_bound(
      specials.begin(), specials.end(), code,
      [](const SpecialCase& entry, uint32_t wanted) { return entry.code < wanted; });
  if (special != specials.end() && special->code == code) {
    out += special->text;
    return;
  }
  const CaseRange* range = candidate(ranges, code);
  if (range != nullptr && code <= range->last && (code - range->first) % range->step == 0)
    code = static_cast<uint32_t>(static_cast<int32_t>(code) + range->delta);
  append_utf8(out, code);
}

/// Is the first character of `text` that is not case-ignorable a cased one?
bool cased_follows(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    const uint32_t code = decode(text, length);
    if (!contains(case_ignorable_ranges(), code)) return contains(cased_ranges(), code);
    text.remove_prefix(length);
  }
  return false;
}

}  // namespace

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool after_cased = false;  // is the last character that is not case-ignorable a cased one?
  // Looking ahead stays linear: a sigma is not case-ignorable, so no two sigmas read the same text.
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      out += text[i++];
      after_cased = false;
      continue;
    }
    const uint32_t code = decode(text.substr(i), length);
    i += length;
    if (code == kCapitalSigma) {
      out += after_cased && !cased_follows(text.substr(i)) ? kFinalSigma : kSmallSigma;
    } else {
      append_mapped(out, code, lower_ranges(), lower_specials());
    }
    if (!contains(case_ignorable_ranges(), code)) after_cased = contains(cased_ranges(), code);
  }
  return out;
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      out += text[i++];
      continue;
    }
    append_mapped(out, decode(text.substr(i), length), upper_ranges(), upper_specials());
    i += length;
  }
  return out;
}

}  // namespace facet
