#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <fmt/core.h>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/tokenizer_json.h"

namespace facet {
namespace {

constexpr size_t kMaxJson = size_t{1} << 30;
constexpr std::string_view kAbsent = "absent";

[[noreturn]] void fail(std::string message) {
  throw Error(ErrorCode::kBadCheckpoint, std::move(message));
}

/// Refuses a setting that is none of `allowed`.
void check_setting(const TokenizerJson& json,
                   std::string_view path,
                   std::initializer_list<std::string_view> allowed) {
  const auto found = json.settings.find(path);
  const auto value = found == json.settings.end() ? kAbsent : std::string_view(found->second);
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  fail(fmt::format("{} is {}, wanted {}", path, printable(value), *allowed.begin()));
}

void check_settings(const TokenizerJson& json) {
  check_setting(json, "model.type", {"\"BPE\""});
  check_setting(json, "model.byte_fallback", {"true"});
  check_setting(json, "model.dropout", {"null", "0.0", "0", kAbsent});
  check_setting(json, "model.continuing_subword_prefix", {"null", "\"\"", kAbsent});
  check_setting(json, "model.end_of_word_suffix", {"null", "\"\"", kAbsent});
  check_setting(json, "model.ignore_merges", {"false", "null", kAbsent});
  check_setting(json, "normalizer.type", {"\"Replace\""});
  check_setting(json, "normalizer.pattern.String", {"\" \""});
  check_setting(json, "normalizer.content", {"\"\u2581\""});
  if (json.settings.count("pre_tokenizer.type") == 0) {
    check_setting(json, "pre_tokenizer", {"null", kAbsent});
  } else {
    // There are no spaces left to split at.
    check_setting(json, "pre_tokenizer.type", {"\"Split\""});
    check_setting(json, "pre_tokenizer.pattern.String", {"\" \""});
    check_setting(json, "pre_tokenizer.invert", {"false", kAbsent});
  }
}

/// The spelling of every id.
LargeVector<std::string_view> pieces_by_id(const TokenizerJson& json) {
  int64_t last = -1;
  for (const auto& [piece, id] : json.vocab) last = std::max(last, id);
  for (const AddedToken& token : json.added_tokens) last = std::max(last, token.id);
  const auto entries = static_cast<int64_t>(json.vocab.size() + json.added_tokens.size());
  if (last >= MergeTable::kMaxEntries) {
    fail(fmt::format("id {} is over the limit of {}", last, MergeTable::kMaxEntries - 1));
  }
  if (last >= entries) {
    fail(fmt::format("the last id is {}, but there are at most {} entries", last, entries));
  }
  LargeVector<std::string_view> pieces(static_cast<size_t>(last + 1));
  for (const auto& [piece, id] : json.vocab) {
    if (id < 0) fail(fmt::format("model.vocab: {} has id {}", printable(piece, 80), id));
    if (piece.empty()) fail(fmt::format("model.vocab: id {} is an empty text", id));
    std::string_view& slot = pieces[static_cast<size_t>(id)];
    if (!slot.empty()) {
      fail(fmt::format("model.vocab: id {} is {} and {}", id, printable(slot, 80),
                       printable(piece, 80)));
    }
    slot = piece;
  }
  for (const AddedToken& token : json.added_tokens) {
    std::string_view& slot = pieces[static_cast<size_t>(token.id)];
    if (!slot.empty() && slot != token.content) {
      fail(fmt::format("added_tokens: id {} is {}, but {} in model.vocab", token.id,
                       printable(token.content, 80), printable(slot, 80)));
    }
    slot = token.content;
  }
  const auto gap = std::find(pieces.begin(), pieces.end(), std::string_view());
  if (gap != pieces.end()) fail(fmt::format("id {} is missing", gap - pieces.begin()));
  return pieces;
}

}  // namespace

Vocabulary::Vocabulary(EntryTable entries_in,
                       ControlSet controls_in,
                       CharacterTable characters_in,
                       MergeTable merges_in,
                       Splitter splitter_in,
                       std::vector<bool> is_control_in)
    : entries(std::move(entries_in)),
      controls(std::move(controls_in)),
      characters(std::move(characters_in)),
      merges(std::move(merges_in)),
      splitter(std::move(splitter_in)),
      is_control(std::move(is_control_in)) {}

std::unique_ptr<const Vocabulary> Vocabulary::parse(std::string_view text) {
  if (text.size() > kMaxJson) fail(fmt::format("{} bytes, over 1 GiB", text.size()));
  const TokenizerJson json = read_tokenizer_json(text);
  check_settings(json);
  EntryTable entries(pieces_by_id(json));
  const PieceIndex index(entries);

  ControlSet controls(json.added_tokens);
  std::vector<bool> is_control(static_cast<size_t>(entries.size()));
  for (const AddedToken& token : controls.tokens())
    is_control[static_cast<size_t>(token.id)] = true;
  // Else text of a user could spell a control token, or a byte token be mistaken for its name.
  std::vector<bool> unmergeable = is_control;
  for (int32_t id = 0; id < entries.size(); ++id) {
    if (byte_of_piece(entries.piece(id)) >= 0) unmergeable[static_cast<size_t>(id)] = true;
  }
  CharacterTable characters(entries, is_control);
  MergeTable merges(json.merges, entries, index, unmergeable);
  return std::make_unique<const Vocabulary>(std::move(entries), std::move(controls),
                                            std::move(characters), std::move(merges),
                                            Splitter(json.merges), std::move(is_control));
}

}  // namespace facet
