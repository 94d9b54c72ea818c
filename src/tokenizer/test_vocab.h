#pragma once

#include <array>
#include <boost/json.hpp>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/control_tokens.h"
#include "tokenizer/tokenizer.h"

namespace facet::test {

/// A small tokenizer.json to change and to load: the text control tokens with their ids, byte
/// tokens at 200 + NN, fillers between them, then from 456 the characters and merges added.
class TinyVocab {
 public:
  static constexpr int64_t kFirstByte = 200;
  static constexpr int64_t kFirstFree = 456;

  TinyVocab() {
    for (int64_t id = 0; id < kFirstByte; ++id) vocab["<unused" + std::to_string(id) + ">"] = id;
    for (const ControlToken& token : kControlTokens) {
      if (token.kind == ControlKind::kMedia) continue;
      vocab.erase("<unused" + std::to_string(to_index(token.id)) + ">");
      vocab[std::string(token.text)] = to_index(token.id);
      add_control(to_index(token.id), token.text);
    }
    for (int byte = 0; byte < 256; ++byte) {
      std::array<char, 8> name{};
      std::snprintf(name.data(), name.size(), "<0x%02X>", static_cast<unsigned>(byte));
      vocab[name.data()] = kFirstByte + byte;
    }
  }

  int64_t add(std::string_view piece) {
    const auto found = vocab.find(piece);
    if (found != vocab.end()) return found->value().as_int64();
    vocab[piece] = next;
    return next++;
  }
  void add_characters(std::initializer_list<std::string_view> pieces) {
    for (const std::string_view piece : pieces) add(piece);
  }
  /// Adds the result to the vocabulary, not the halves.
  void merge(std::string_view left, std::string_view right) {
    add(std::string(left) + std::string(right));
    merges.push_back(boost::json::array{left, right});
  }
  boost::json::object& add_control(int64_t id, std::string_view text) {
    added.push_back(boost::json::object{{"id", id},
                                        {"content", text},
                                        {"single_word", false},
                                        {"lstrip", false},
                                        {"rstrip", false},
                                        {"normalized", false},
                                        {"special", true}});
    return added.back().as_object();
  }

  boost::json::object json() const {
    boost::json::object whole_model = model;
    whole_model["vocab"] = vocab;
    whole_model["merges"] = merges;
    return {{"version", "1.0"},
            {"added_tokens", added},
            {"normalizer", normalizer},
            {"pre_tokenizer", pre_tokenizer},
            {"decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "Fuse"}}, nullptr, 1}}}},
            {"model", whole_model}};
  }
  std::string text() const { return boost::json::serialize(json()); }
  Tokenizer load() const { return Tokenizer::parse(text()); }

  boost::json::object vocab;
  boost::json::array merges;
  boost::json::array added;
  boost::json::object model{
      {"type", "BPE"}, {"dropout", nullptr}, {"byte_fallback", true}, {"ignore_merges", false}};
  boost::json::value normalizer{
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  boost::json::value pre_tokenizer = nullptr;
  int64_t next = kFirstFree;
};

inline std::vector<int32_t> indices(const std::vector<TokenId>& ids) {
  std::vector<int32_t> out;
  for (const TokenId id : ids) out.push_back(to_index(id));
  return out;
}

/// A text of `length` draws from `parts`.
inline std::string random_text(std::mt19937& random,
                               const std::vector<std::string>& parts,
                               size_t length) {
  std::string out;
  std::uniform_int_distribution<size_t> pick(0, parts.size() - 1);
  for (size_t i = 0; i < length; ++i) out += parts[pick(random)];
  return out;
}

}  // namespace facet::test
