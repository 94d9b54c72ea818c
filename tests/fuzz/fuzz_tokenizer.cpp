// Any bytes, as a tokenizer.json and as text. As a tokenizer.json they are refused with an Error or
// loaded, and what was loaded encodes. As text they
// encode with a small vocabulary of awkward merges to what the text gives as one word,
// come back when decoded, and decode alike in one go and token by token.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tests/fuzz/small_vocabulary.h"
#include "tests/utf8.h"
#include "tokenizer/bpe.h"
#include "tokenizer/control_tokens.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace {

using facet::ControlText;
using facet::ControlTokens;
using facet::TokenId;
using facet::test::is_utf8;

void require(bool holds) {
  if (!holds) std::abort();
}

std::string decode_by_token(const facet::Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  facet::IncrementalDecoder decoder(tokenizer, ControlText::kShow);
  std::string out;
  for (const TokenId id : ids) {
    const std::string text = decoder.push(id);
    require(is_utf8(text));
    out += text;
  }
  return out + decoder.flush();
}

void check_text(std::string_view text) {
  static const std::string json = facet::test::small_vocabulary();
  static const facet::Tokenizer tokenizer = facet::Tokenizer::parse(json);
  static const auto vocabulary = facet::Vocabulary::parse(json);
  static facet::Encoder encoder(tokenizer);
  const std::vector<TokenId> ids = tokenizer.encode(text);
  std::vector<TokenId> whole;
  encode_word(*vocabulary, text, whole);
  require(ids == whole);
  std::string bytes;
  for (const TokenId id : ids) {
    require(!tokenizer.is_control(id));
    bytes += tokenizer.bytes_of(id);
  }
  if (text.find("\u2581") == std::string_view::npos) require(bytes == text);

  std::vector<TokenId> recognised;
  encoder.encode(text, ControlTokens::kRecognise, recognised);
  require(recognised == tokenizer.encode(text, ControlTokens::kRecognise));
  require(decode_by_token(tokenizer, ids) == tokenizer.decode(ids, ControlText::kShow));
  const std::string shown = tokenizer.decode(recognised, ControlText::kShow);
  require(decode_by_token(tokenizer, recognised) == shown);
  if (is_utf8(text) && bytes == text) require(shown == text);
}

void check_json(std::string_view text) {
  try {
    const auto tokenizer = facet::Tokenizer::parse(text);
    const auto ids = tokenizer.encode("a b\n<bos>", ControlTokens::kRecognise);
    tokenizer.decode(ids, ControlText::kShow);
  } catch (const facet::Error& error) {
    require(error.code() == facet::ErrorCode::kBadCheckpoint);
    require(error.what()[0] != '\0');
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_json(text);
  check_text(text);
  return 0;
}
