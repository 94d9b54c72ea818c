#include "tokenizer/tokenizer_json.h"

#include <fmt/core.h>
#include <functional>

#include "base/error.h"
#include "base/text.h"
#include "json/json_sax.h"

namespace facet {
namespace {

/// Where in the document the parser is.
enum class Place { kSettings, kVocab, kMerges, kMergePair, kAddedTokens, kAddedToken };

/// Longer paths and values are no setting that is looked at.
constexpr size_t kMaxSetting = 200;

class TokenizerHandler : public JsonSax {
 public:
  explicit TokenizerHandler(std::string_view json) : json_(json) {
    // What a compact file of this size holds; one allocation instead of twenty.
    result_.vocab.reserve(json.size() / 48);
    result_.merges.reserve(json.size() / 24);
  }

  TokenizerJson release() { return std::move(result_); }

  bool on_object_begin(Code& code) {
    if (place_ == Place::kAddedTokens) {
      result_.added_tokens.emplace_back();
      field_ = {};
      place_ = Place::kAddedToken;
      return true;
    }
    if (place_ != Place::kSettings) return wrong_kind(code, "an object");
    if (at("model.vocab")) {
      place_ = Place::kVocab;
      return first_time(code);
    }
    open_.push_back(path_.size());
    return true;
  }

  bool on_object_end(size_t /*members*/, Code& code) {
    if (place_ == Place::kAddedToken) {
      place_ = Place::kAddedTokens;
      return result_.added_tokens.back().id >= 0 && !result_.added_tokens.back().content.empty()
                 ? true
                 : refuse(code, "added_tokens: an entry lacks id or content");
    }
    if (place_ == Place::kVocab) {
      place_ = Place::kSettings;
    } else {
      open_.pop_back();
    }
    return true;
  }

  bool on_array_begin(Code& code) {
    if (place_ == Place::kMerges) {
      place_ = Place::kMergePair;
      halves_ = 0;
      return true;
    }
    if (place_ != Place::kSettings) return wrong_kind(code, "an array");
    if (at("model.merges")) {
      place_ = Place::kMerges;
      return first_time(code);
    }
    if (at("added_tokens")) {
      place_ = Place::kAddedTokens;
      return first_time(code);
    }
    ++arrays_;
    return true;
  }

  bool on_array_end(size_t /*elements*/, Code& code) {
    if (place_ == Place::kMergePair) {
      place_ = Place::kMerges;
      if (halves_ != 2) return refuse(code, fmt::format("{} holds {} texts", merge(), halves_));
      result_.merges.emplace_back(pair_[0], pair_[1]);
    } else if (place_ == Place::kSettings) {
      --arrays_;
    } else {
      place_ = Place::kSettings;
    }
    return true;
  }

  bool on_key_part(Text part, size_t /*total*/, Code& /*code*/) {
    parts_.append(part.data(), part.size());
    return true;
  }
  bool on_key(Text part, size_t /*total*/, Code& /*code*/) {
    if (place_ == Place::kVocab) {
      key_ = kept(part);
    } else if (place_ == Place::kAddedToken) {
      field_ = whole(part);
    } else if (arrays_ == 0) {
      path_.resize(open_.back());
      if (!path_.empty()) path_ += '.';
      path_ += whole(part);
    } else {
      parts_.clear();
    }
    return true;
  }

  bool on_string_part(Text part, size_t /*total*/, Code& /*code*/) {
    parts_.append(part.data(), part.size());
    return true;
  }
  bool on_string(Text part, size_t /*total*/, Code& code) {
    switch (place_) {
      case Place::kMergePair:
        if (halves_ == 2) return refuse(code, fmt::format("{} holds over two texts", merge()));
        pair_[halves_++] = kept(part);
        return true;
      case Place::kMerges:
        return add_merge(kept(part), code);
      case Place::kSettings:
        return add_setting(fmt::format("\"{}\"", whole(part)), code);
      case Place::kAddedToken: {
        std::string text = whole(part);
        if (field_ == "content") result_.added_tokens.back().content = std::move(text);
        return field_is_not_flag_or_id() || wrong_kind(code, "a string");
      }
      default:
        return wrong_kind(code, "a string");
    }
  }

  bool on_number_part(Text /*part*/, Code& /*code*/) { return true; }
  bool on_int64(int64_t value, Text text, Code& code) {
    if (place_ == Place::kVocab) {
      result_.vocab.emplace_back(key_, value);
      return true;
    }
    if (place_ == Place::kAddedToken && field_ == "id") {
      result_.added_tokens.back().id = value;
      return value >= 0 || refuse(code, fmt::format("added_tokens: id {}", value));
    }
    return add_scalar(text, "a number", code);
  }
  bool on_uint64(uint64_t /*value*/, Text text, Code& code) {
    return add_scalar(text, "a number", code);
  }
  bool on_double(double /*value*/, Text text, Code& code) {
    return add_scalar(text, "a number", code);
  }
  bool on_bool(bool value, Code& code) {
    if (place_ != Place::kAddedToken)
      return add_scalar(value ? "true" : "false", "a boolean", code);
    AddedToken& token = result_.added_tokens.back();
    if (field_ == "single_word") token.single_word = value;
    if (field_ == "lstrip") token.lstrip = value;
    if (field_ == "rstrip") token.rstrip = value;
    return (field_ != "id" && field_ != "content") || wrong_kind(code, "a boolean");
  }
  bool on_null(Code& code) { return add_scalar("null", "null", code); }

 private:
  bool at(std::string_view path) const { return arrays_ == 0 && path_ == path; }

  bool first_time(Code& code) { return add_setting("present", code); }

  bool add_setting(std::string value, Code& code) {
    if (arrays_ > 0 || path_.size() > kMaxSetting) return true;
    if (value.size() > kMaxSetting) value.resize(kMaxSetting);
    if (result_.settings.emplace(path_, std::move(value)).second) return true;
    return refuse(code, fmt::format("{} appears twice", printable(path_)));
  }

  /// A number, boolean or null outside the places that want one.
  bool add_scalar(std::string_view text, std::string_view kind, Code& code) {
    if (place_ == Place::kSettings) return add_setting(std::string(text), code);
    const bool unknown_field =
        place_ == Place::kAddedToken && field_ != "content" && field_is_not_flag_or_id();
    return unknown_field || wrong_kind(code, kind);
  }

  bool field_is_not_flag_or_id() const {
    return field_ != "id" && field_ != "single_word" && field_ != "lstrip" && field_ != "rstrip";
  }

  bool add_merge(std::string_view both, Code& code) {
    const size_t space = both.find(' ');
    if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
      return refuse(code, fmt::format("{} is {}, wanted two texts and a space between them",
                                      merge(), printable(both, 80)));
    }
    result_.merges.emplace_back(both.substr(0, space), both.substr(space + 1));
    return true;
  }

  bool wrong_kind(Code& code, std::string_view found) {
    switch (place_) {
      case Place::kVocab:
        return refuse(code, fmt::format("model.vocab: {} is {}, wanted an integer",
                                        printable(key_, 80), found));
      case Place::kAddedTokens:
        return refuse(code, fmt::format("added_tokens holds {}, wanted objects", found));
      case Place::kAddedToken:
        return refuse(code, fmt::format("added_tokens: {} is {}", printable(field_, 40), found));
      default:
        return refuse(code, fmt::format("{} holds {}, wanted texts", merge(), found));
    }
  }

  std::string merge() const { return fmt::format("model.merges: merge {}", result_.merges.size()); }

  /// The text of a key or string whose last part is `part`.
  std::string whole(Text part) {
    parts_.append(part.data(), part.size());
    return std::exchange(parts_, {});
  }

  /// The same, living as long as the result.
  std::string_view kept(Text part) {
    // Compared as std::less orders them: `part` may lie in a buffer of the parser.
    const std::less<> before;
    const bool in_json =
        !before(part.data(), json_.data()) && before(part.data(), json_.data() + json_.size());
    if (parts_.empty() && in_json) return {part.data(), part.size()};
    return result_.unescaped.emplace_back(whole(part));
  }

  std::string_view json_;
  TokenizerJson result_;

  Place place_ = Place::kSettings;
  std::string parts_;  // of the key or string being read

  // Outside the bulk: the member being read, the lengths of its open parents, open arrays.
  std::string path_;
  std::vector<size_t> open_;
  int32_t arrays_ = 0;

  std::string_view key_;      // of model.vocab
  std::string field_;         // of an added token
  std::string_view pair_[2];  // of a merge
  size_t halves_ = 0;
};

[[noreturn]] void fail(std::string message) {
  throw Error(ErrorCode::kBadCheckpoint, std::move(message));
}

}  // namespace

TokenizerJson read_tokenizer_json(std::string_view json) {
  TokenizerJson result = run_json_parser<TokenizerHandler>(json, ErrorCode::kBadCheckpoint, json);
  for (const char* bulk : {"model.vocab", "model.merges", "added_tokens"}) {
    const auto found = result.settings.find(bulk);
    if (found == result.settings.end()) fail(fmt::format("{} is missing", bulk));
    if (found->second != "present") fail(fmt::format("{} is {}", bulk, printable(found->second)));
  }
  return result;
}

}  // namespace facet
