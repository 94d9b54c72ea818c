#include "tokenizer/control_set.h"

#include <algorithm>
#include <fmt/core.h>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

[[noreturn]] void fail(std::string message) {
  throw Error(ErrorCode::kBadCheckpoint, "added_tokens: " + std::move(message));
}

constexpr std::array<std::string_view, 25> kWhiteSpace = {
    "\t",     "\n",     "\v",     "\f",     "\r",     " ",      "\u0085", "\u00a0", "\u1680",
    "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008",
    "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};

/// The length of the white space character at the start of `text`, or 0.
size_t space_at_start(std::string_view text) {
  for (const std::string_view space : kWhiteSpace) {
    if (text.starts_with(space)) return space.size();
  }
  return 0;
}

size_t space_at_end(std::string_view text) {
  for (const std::string_view space : kWhiteSpace) {
    if (text.ends_with(space)) return space.size();
  }
  return 0;
}

/// Letters, digits and underscore; of what is not ASCII, all but white space.
bool is_word_byte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_byte(text.front()) && space_at_start(text) == 0;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_byte(text.back()) && space_at_end(text) == 0;
}

void check_table(const std::vector<AddedToken>& tokens) {
  for (const ControlToken& wanted : kControlTokens) {
    bool found = false;
    for (const AddedToken& token : tokens) {
      if (token.id != to_index(wanted.id) && token.content != wanted.text) continue;
      found = true;
      if (token.id == to_index(wanted.id) && token.content == wanted.text) continue;
      fail(fmt::format("id {} is {}, wanted {} with id {}", token.id, printable(token.content, 40),
                       wanted.text, to_index(wanted.id)));
    }
    if (!found && wanted.kind == ControlKind::kText) {
      fail(fmt::format("{} (id {}) is missing", wanted.text, to_index(wanted.id)));
    }
  }
}

}  // namespace

ControlSet::ControlSet(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  std::set<std::string_view> texts;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (i > 0 && tokens_[i].id == tokens_[i - 1].id) {
      fail(fmt::format("id {} appears twice", tokens_[i].id));
    }
    if (!texts.insert(tokens_[i].content).second) {
      fail(fmt::format("{} appears twice", printable(tokens_[i].content, 80)));
    }
  }
  check_table(tokens_);
  has_media_ = std::all_of(kControlTokens.begin(), kControlTokens.end(),
                           [&](const ControlToken& token) { return texts.count(token.text) > 0; });
  for (const AddedToken& token : tokens_) {
    by_first_byte_[static_cast<uint8_t>(token.content.front())].push_back(&token);
  }
  for (auto& list : by_first_byte_) {
    std::sort(list.begin(), list.end(), [](const AddedToken* a, const AddedToken* b) {
      return a->content.size() > b->content.size();
    });
  }
}

std::optional<TokenId> ControlSet::find(std::string_view text) const {
  for (const AddedToken& token : tokens_) {
    if (token.content == text) return TokenId{static_cast<int32_t>(token.id)};
  }
  return std::nullopt;
}

std::string_view ControlSet::text_of(TokenId id) const {
  const auto found =
      std::lower_bound(tokens_.begin(), tokens_.end(), to_index(id),
                       [](const AddedToken& token, int32_t wanted) { return token.id < wanted; });
  if (found == tokens_.end() || found->id != to_index(id)) return {};
  return found->content;
}

const AddedToken* ControlSet::longest_at(std::string_view text, size_t at) const {
  for (const AddedToken* token : by_first_byte_[static_cast<uint8_t>(text[at])]) {
    if (text.substr(at).starts_with(token->content)) return token;
  }
  return nullptr;
}

std::optional<ControlMatch> ControlSet::next(std::string_view text, size_t from) const {
  for (size_t at = from; at < text.size();) {
    const AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + token->content.size();
    if (token->single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) {
      at = end;
      continue;
    }
    while (token->lstrip && begin > from) {
      const size_t space = space_at_end(text.substr(from, begin - from));
      if (space == 0) break;
      begin -= space;
    }
    while (token->rstrip && end < text.size()) {
      const size_t space = space_at_start(text.substr(end));
      if (space == 0) break;
      end += space;
    }
    return ControlMatch{begin, end, TokenId{static_cast<int32_t>(token->id)}};
  }
  return std::nullopt;
}

}  // namespace facet
