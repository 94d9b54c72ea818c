#include "tests/fuzz/small_vocabulary.h"

#include <fmt/core.h>
#include <utility>
#include <vector>

#include "tokenizer/control_tokens.h"

namespace facet::test {

std::string small_vocabulary() {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"\u2581", "<"}, {"\u2581<", "/"},       {">", "\u2581</"},       {"a", "\\n"},
      {"\\n", "\\n"},  {"\\n\\n", "b"},        {"\\n", "\u2581"},       {"\u2581", "\u2581"},
      {"a", "b"},      {"ab", "\u2581\u2581"}, {"\u2581\u2581", "\\n"}, {"a", "a"}};
  std::vector<std::string> pieces;
  for (int i = 0; i < 200; ++i) pieces.push_back(fmt::format("<unused{}>", i));
  std::string added;
  for (const ControlToken& token : kControlTokens) {
    if (token.kind == ControlKind::kMedia) continue;
    std::string text(token.text);
    for (size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at + 2)) {
      text.insert(at, 1, '\\');
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

}  // namespace facet::test
