#include "checkpoint/name_regex.h"

#include <algorithm>
#include <cctype>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

// The product of all {m,n} counts. It bounds the automaton, and so the depth of the library's
// recursion, to a few thousand states.
constexpr int64_t kMaxRepeats = 16;

[[noreturn]] void bad_pattern(const std::string& pattern, const std::string& why) {
  throw Error(ErrorCode::kBadCheckpoint,
              fmt::format("bad pattern \"re:{}\": {}", printable(pattern), why));
}

int64_t repeats(std::string_view pattern) {
  int64_t product = 1;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == '{') {
      int64_t count = 0;  // of the last number before the brace closes
      for (++i; i < pattern.size() && pattern[i] != '}'; ++i) {
        const auto c = static_cast<unsigned char>(pattern[i]);
        count = std::isdigit(c) != 0 ? count * 10 + (c - '0') : 0;
        if (count > kMaxRepeats) return count;
      }
      product *= std::max<int64_t>(count, 1);
      if (product > kMaxRepeats) return product;
    }
  }
  return product;
}

/// `i` at a "[": the index of its "]", or npos if that is not plain to see.
size_t skip_class(std::string_view pattern, size_t i) {
  for (++i; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == ']') {
      return i;
    } else if (pattern[i] == '[') {
      return std::string_view::npos;
    }
  }
  return std::string_view::npos;
}

/// `i` at a "(": the index of its ")", or npos.
size_t skip_group(std::string_view pattern, size_t i) {
  int32_t depth = 0;
  for (; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == '[') {
      i = skip_class(pattern, i);
      if (i == std::string_view::npos) return i;
    } else if (pattern[i] == '(') {
      ++depth;
    } else if (pattern[i] == ')' && --depth == 0) {
      return i;
    }
  }
  return std::string_view::npos;
}

}  // namespace

std::string required_text(std::string_view pattern) {
  std::string best;
  std::string run;
  const auto close = [&best, &run] {
    if (run.size() > best.size()) best = run;
    run.clear();
  };
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '|') return {};  // one of several: nothing is required
    if (c == '\\') {
      if (++i == pattern.size()) return {};
      if (std::ispunct(static_cast<unsigned char>(pattern[i])) != 0) {
        run += pattern[i];
      } else if (std::string_view("dDwWsSbB").find(pattern[i]) != std::string_view::npos) {
        close();
      } else {
        return {};  // \x41 and the like take characters that are not text
      }
    } else if (c == '(' || c == '[') {
      close();
      i = c == '(' ? skip_group(pattern, i) : skip_class(pattern, i);
      if (i == std::string_view::npos) return {};
    } else if (c == '*' || c == '?' || c == '{') {
      if (!run.empty()) run.pop_back();
      close();
      if (c == '{') i = std::min(pattern.find('}', i), pattern.size());
    } else if (std::string_view("+.^$)]}").find(c) != std::string_view::npos) {
      close();
    } else {
      run += c;
    }
  }
  close();
  return best;
}

NameRegex::NameRegex(const std::string& pattern) : needle_(required_text(pattern)) {
  if (pattern.size() > kMaxPattern) {
    bad_pattern(pattern, fmt::format("{} bytes, at most {} wanted", pattern.size(), kMaxPattern));
  }
  if (repeats(pattern) > kMaxRepeats) {
    bad_pattern(pattern, fmt::format("repeats more than {} times", kMaxRepeats));
  }
  try {
    // __polynomial is libstdc++'s matcher without backtracking: no pattern takes exponential time,
    // and the depth of its recursion does not grow with the name.
    regex_.assign(pattern, std::regex_constants::ECMAScript | std::regex_constants::nosubs |
                               std::regex_constants::__polynomial);
  } catch (const std::regex_error& error) {
    bad_pattern(pattern, error.what());
  }
}

bool NameRegex::matches(std::string_view name) const {
  if (name.size() > kMaxName) {
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("module name {}: {} bytes, at most {} wanted", printable(name, 80),
                            name.size(), kMaxName));
  }
  if (name.find(needle_) == std::string_view::npos) return false;
  return std::regex_search(name.begin(), name.end(), regex_,
                           std::regex_constants::match_continuous);
}

}  // namespace facet
