#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "tokenizer/tokenizer_json.h"

namespace facet {

/// A control token found in a text: bytes [begin, end), white space it takes included.
struct ControlMatch {
  size_t begin;
  size_t end;
  TokenId id;
};

/// The control tokens of a vocabulary: all its `added_tokens`.
class ControlSet {
 public:
  /// Throws Error{kBadCheckpoint} where the tokens differ from kControlTokens (a text token is
  /// missing, an id has another text or a text another id) or an id or text appears twice.
  explicit ControlSet(std::vector<AddedToken> tokens);
  ControlSet(ControlSet&&) = default;
  ControlSet& operator=(ControlSet&&) = default;

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  std::optional<TokenId> find(std::string_view text) const;
  /// Empty if `id` is no control token.
  std::string_view text_of(TokenId id) const;
  bool has_media() const { return has_media_; }

  /// The first control token of `text` at or behind byte `from`; of several at one place the
  /// longest. It takes the white space beside it if its flags say so, but none before `from`.
  /// As Hugging Face tokenizers does it: a place refused for single_word is left behind whole.
  std::optional<ControlMatch> next(std::string_view text, size_t from) const;

 private:
  const AddedToken* longest_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;  // by id
  bool has_media_ = false;
  std::array<std::vector<const AddedToken*>, 256> by_first_byte_;  // longest first; into tokens_
};

}  // namespace facet
