#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace facet {

/// Encoding: does text that spells a control token ("<bos>") become that token? Text of a user
/// must be encoded with kIgnore, which never yields a control token.
enum class ControlTokens { kIgnore, kRecognise };

/// Decoding: are control tokens left out or shown as their text?
enum class ControlText { kDrop, kShow };

struct Vocabulary;
class PieceCache;

/// Byte-pair encoding as a `tokenizer.json` of Gemma 4 describes it: spaces become U+2581,
/// characters without an entry become their UTF-8 bytes, nothing is added, trimmed or normalised.
/// Constant after loading; any number of threads may use one. An id outside [0, size()) given to
/// any member throws Error{kBadInput}.
class Tokenizer {
 public:
  /// Throws Error{kIo} if the file cannot be read, Error{kBadCheckpoint} as parse() does, with the
  /// path as place.
  static Tokenizer load(const std::string& tokenizer_json_path);

  /// `json` is the text of a tokenizer.json; it is not kept. Throws Error{kBadCheckpoint} for bad
  /// JSON, a model other than BPE with byte fallback, a normaliser other than space to U+2581,
  /// double or missing ids, merges that name unknown tokens or make a control token, and control
  /// tokens that differ from kControlTokens.
  static Tokenizer parse(std::string_view json);

  ~Tokenizer();
  Tokenizer(Tokenizer&& other) noexcept;
  Tokenizer& operator=(Tokenizer&& other) noexcept;

  /// Appends the ids of `text` to `out`. Bytes that are not UTF-8 become byte tokens. Time is
  /// O(n log n) in the worst case. Whoever encodes often should own an Encoder, which is faster.
  void encode(std::string_view text, ControlTokens control, std::vector<TokenId>& out) const;
  std::vector<TokenId> encode(std::string_view text,
                              ControlTokens control = ControlTokens::kIgnore) const;

  /// The bytes of all tokens joined. Bytes that are not UTF-8 become one U+FFFD per maximal
  /// subpart; a control token and the end complete a character.
  std::string decode(std::span<const TokenId> ids, ControlText control) const;

  /// The raw bytes an ordinary token decodes to (U+2581 as a space, `<0xNN>` as its byte); empty
  /// for a control token. Lives as long as the tokenizer.
  std::string_view bytes_of(TokenId id) const;
  /// The entry as the file spells it.
  std::string_view piece(TokenId id) const;

  bool is_control(TokenId id) const;
  /// The control token that is spelt `text`, if this vocabulary has it.
  std::optional<TokenId> control_id(std::string_view text) const;
  /// The text of a control token; empty for an ordinary one.
  std::string_view control_text(TokenId id) const;
  /// Does the vocabulary have all media tokens of kControlTokens? Without them media are off.
  bool has_media() const;

  /// Ids are 0 to size() - 1.
  int32_t size() const;
  /// Throws Error{kBadCheckpoint} if there are more entries than the embedding has rows.
  void check_fits(int32_t embedding_rows) const;

 private:
  friend class Encoder;
  explicit Tokenizer(std::unique_ptr<const Vocabulary> vocabulary);
  void check_id(TokenId id) const;

  std::unique_ptr<const Vocabulary> vocabulary_;
};

/// Encodes as Tokenizer::encode does and remembers the ids of the words it meets, in a table of
/// fixed size (4 MB). One thread at a time; the tokenizer must outlive it and must not be moved.
class Encoder {
 public:
  explicit Encoder(const Tokenizer& tokenizer);
  ~Encoder();
  Encoder(Encoder&& other) noexcept;
  Encoder& operator=(Encoder&& other) noexcept;

  /// Appends the ids of `text` to `out`.
  void encode(std::string_view text, ControlTokens control, std::vector<TokenId>& out);

 private:
  const Vocabulary* vocabulary_;  // owned by the tokenizer
  std::unique_ptr<PieceCache> cache_;
};

/// Decodes token by token. What push() and flush() returned, joined, is always well-formed UTF-8
/// and equals Tokenizer::decode of the same ids; no later token changes it. The tokenizer must
/// outlive it and must not be moved.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer, ControlText control = ControlText::kDrop);

  /// The text that this token completes; bytes of an unfinished character are held back. A control
  /// token completes a character: held bytes become U+FFFD, before its own text if that is shown.
  std::string push(TokenId id);
  /// Held bytes as U+FFFD: for the end, and where a channel changes.
  std::string flush();
  /// How many bytes are held back.
  size_t held() const { return held_.size(); }

 private:
  const Tokenizer* tokenizer_;
  ControlText control_;
  std::string held_;  // a proper prefix of one UTF-8 character: at most 3 bytes
};

}  // namespace facet
