// Any bytes, as a tokenizer.json and as text. As a tokenizer.json they are refused with an Error or
// loaded, and what was loaded encodes. As text they
// encode with a small vocabulary of awkward merges to what the text gives as one word,
// come back when decoded, and decode alike in one go and token by token.

#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/bpe.h"
#include "tokenizer/control_tokens.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace {

using facet::ControlText;
using facet::ControlTokens;
using facet::TokenId;

void require(bool holds) {
  if (!holds) std::abort();
}

/// Merges across newlines, across spaces and of the spaces themselves.
std::string awkward_vocabulary() {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"\u2581", "<"}, {"\u2581<", "/"},       {">", "\u2581</"},       {"a", "\\n"},
      {"\\n", "\\n"},  {"\\n\\n", "b"},        {"\\n", "\u2581"},       {"\u2581", "\u2581"},
      {"a", "b"},      {"ab", "\u2581\u2581"}, {"\u2581\u2581", "\\n"}, {"a", "a"}};
  std::vector<std::string> pieces;
  for (int i = 0; i < 200; ++i) pieces.push_back(fmt::format("<unused{}>", i));
  std::string added;
  for (const facet::ControlToken& token : facet::kControlTokens) {
    if (token.kind == facet::ControlKind::kMedia) continue;
    std::string text(token.text);
    for (size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at + 2)) {
      text.insert(at, "\\");
    }
    pieces[static_cast<size_t>(to_index(token.id))] = text;
    added += fmt::format(R"({}{{"id":{},"content":"{}"}})", added.empty() ? "" : ",",
                         to_index(token.id), text);
  }
  for (int byte = 0; byte < 256; ++byte) pieces.push_back(fmt::format("<0x{:02X}>", byte));
  for (const char* piece : {"a", "b", "<", "/", ">", "\\n", "\u2581", "\u20ac"}) {
    pieces.emplace_back(piece);
  }
  std::string merge_list;
  for (const auto& [left, right] : merges) {
    pieces.push_back(left + right);
    merge_list += fmt::format(R"({}["{}","{}"])", merge_list.empty() ? "" : ",", left, right);
  }
  std::string vocab;
  for (size_t id = 0; id < pieces.size(); ++id) {
    vocab += fmt::format(R"({}"{}":{})", vocab.empty() ? "" : ",", pieces[id], id);
  }
  return fmt::format(
      R"({{"added_tokens":[{}],"normalizer":{{"type":"Replace","pattern":{{"String":" "}},)"
      R"("content":"{}"}},"model":{{"type":"BPE","byte_fallback":true,"vocab":{{{}}},)"
      R"("merges":[{}]}}}})",
      added, "\u2581", vocab, merge_list);
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = facet::utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
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
  static const std::string json = awkward_vocabulary();
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
