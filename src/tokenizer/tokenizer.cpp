#include "tokenizer/tokenizer.h"

#include <array>
#include <cstddef>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/lfs_pointer.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "tokenizer/bpe.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/utf8_stream.h"
#include "tokenizer/vocabulary.h"

namespace facet {
namespace {

/// `text` holds no control tokens, or they count as text.
void encode_alone(const Vocabulary& vocabulary, std::string_view text, std::vector<TokenId>& out) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = vocabulary.splitter.part_end(text, begin);
    encode_word(vocabulary, text.substr(begin, end - begin), out);
    begin = end;
  }
}

/// The same. Words are looked up in groups, whose waits for memory overlap.
void encode_cached(const Vocabulary& vocabulary,
                   PieceCache& cache,
                   std::string_view text,
                   std::vector<TokenId>& out) {
  constexpr size_t kGroup = 8;
  std::array<PieceCache::Query, kGroup> group;
  for (size_t begin = 0; begin < text.size();) {
    size_t count = 0;
    for (; count < kGroup && begin < text.size(); ++count) {
      const size_t end = vocabulary.splitter.part_end(text, begin);
      group[count] = cache.query(text.substr(begin, end - begin));
      begin = end;
    }
    for (const PieceCache::Query& query : std::span(group).first(count)) {
      if (cache.append(query, out)) continue;
      const size_t first = out.size();
      encode_word(vocabulary, query.word(), out);
      cache.keep(query, std::span<const TokenId>(out).subspan(first));
    }
  }
}

void encode_plain(const Vocabulary& vocabulary,
                  PieceCache* cache,
                  std::string_view text,
                  std::vector<TokenId>& out) {
  if (cache == nullptr) {
    encode_alone(vocabulary, text, out);
  } else {
    encode_cached(vocabulary, *cache, text, out);
  }
}

void encode_text(const Vocabulary& vocabulary,
                 PieceCache* cache,
                 std::string_view text,
                 ControlTokens control,
                 std::vector<TokenId>& out) {
  size_t done = 0;
  if (control == ControlTokens::kRecognise) {
    while (const auto match = vocabulary.controls.next(text, done)) {
      encode_plain(vocabulary, cache, text.substr(done, match->begin - done), out);
      out.push_back(match->id);
      done = match->end;
    }
  }
  encode_plain(vocabulary, cache, text.substr(done), out);
}

}  // namespace

Tokenizer Tokenizer::load(const std::string& tokenizer_json_path) {
  const MappedFile file(tokenizer_json_path);
  const auto bytes = file.bytes();
  return in_place(printable(tokenizer_json_path), [bytes] {
    const std::string_view json(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    refuse_lfs_pointer(json);
    return parse(json);
  });
}

Tokenizer Tokenizer::parse(std::string_view json) { return Tokenizer(Vocabulary::parse(json)); }

Tokenizer::Tokenizer(std::unique_ptr<const Vocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&& other) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&& other) noexcept = default;

void Tokenizer::encode(std::string_view text,
                       ControlTokens control,
                       std::vector<TokenId>& out) const {
  encode_text(*vocabulary_, nullptr, text, control, out);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, ControlTokens control) const {
  std::vector<TokenId> out;
  encode(text, control, out);
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, ControlText control) const {
  std::string out;
  std::string held;
  for (const TokenId id : ids) {
    if (is_control(id)) {
      flush_unfinished(out, held);
      if (control == ControlText::kShow) out += control_text(id);
    } else {
      append_wellformed(out, held, bytes_of(id));
    }
  }
  flush_unfinished(out, held);
  return out;
}

std::string_view Tokenizer::bytes_of(TokenId id) const {
  if (is_control(id)) return {};
  return vocabulary_->entries.bytes(to_index(id));
}

std::string_view Tokenizer::piece(TokenId id) const {
  check_id(id);
  return vocabulary_->entries.piece(to_index(id));
}

bool Tokenizer::is_control(TokenId id) const {
  check_id(id);
  return vocabulary_->is_control[static_cast<size_t>(to_index(id))];
}

std::optional<TokenId> Tokenizer::control_id(std::string_view text) const {
  return vocabulary_->controls.find(text);
}

std::string_view Tokenizer::control_text(TokenId id) const {
  check_id(id);
  return vocabulary_->controls.text_of(id);
}

bool Tokenizer::has_media() const { return vocabulary_->controls.has_media(); }

int32_t Tokenizer::size() const { return vocabulary_->entries.size(); }

void Tokenizer::check_fits(int32_t embedding_rows) const {
  if (size() <= embedding_rows) return;
  throw Error(ErrorCode::kBadCheckpoint,
              fmt::format("tokenizer.json has {} entries, but the embedding has only {} rows",
                          size(), embedding_rows));
}

void Tokenizer::check_id(TokenId id) const {
  if (to_index(id) >= 0 && to_index(id) < size()) return;
  throw Error(ErrorCode::kBadInput,
              fmt::format("token id {} is outside the vocabulary of {}", to_index(id), size()));
}

Encoder::Encoder(const Tokenizer& tokenizer)
    : vocabulary_(tokenizer.vocabulary_.get()), cache_(std::make_unique<PieceCache>()) {}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&& other) noexcept = default;
Encoder& Encoder::operator=(Encoder&& other) noexcept = default;

void Encoder::encode(std::string_view text, ControlTokens control, std::vector<TokenId>& out) {
  encode_text(*vocabulary_, cache_.get(), text, control, out);
}

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer, ControlText control)
    : tokenizer_(&tokenizer), control_(control) {}

std::string IncrementalDecoder::push(TokenId id) {
  std::string out;
  if (tokenizer_->is_control(id)) {
    flush_unfinished(out, held_);
    if (control_ == ControlText::kShow) out += tokenizer_->control_text(id);
  } else {
    append_wellformed(out, held_, tokenizer_->bytes_of(id));
  }
  return out;
}

std::string IncrementalDecoder::flush() {
  std::string out;
  flush_unfinished(out, held_);
  return out;
}

}  // namespace facet
