#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/large_vector.h"

namespace facet {

/// One element of `added_tokens`: a control token.
struct AddedToken {
  int64_t id = -1;
  std::string content;
  bool single_word = false;  ///< no match beside a word character
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space behind it
};

/// A tokenizer.json as it is written, not yet judged. Texts point into the JSON text or into
/// `unescaped`, and live as long as both.
struct TokenizerJson {
  LargeVector<std::pair<std::string_view, int64_t>> vocab;
  LargeVector<std::pair<std::string_view, std::string_view>> merges;
  std::vector<AddedToken> added_tokens;
  /// All other scalars outside arrays by path ("model.type"), as JSON writes them: `"BPE"`,
  /// `true`, `null`.
  std::map<std::string, std::string, std::less<>> settings;
  std::deque<std::string> unescaped;
};

/// Throws Error{kBadCheckpoint} for text that is not JSON, and where `model.vocab`, `model.merges`
/// or `added_tokens` are missing, appear twice or hold something of the wrong kind. Merges are
/// "left right" strings or [left, right] pairs.
TokenizerJson read_tokenizer_json(std::string_view json);

}  // namespace facet
