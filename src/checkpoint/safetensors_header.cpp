#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <optional>
#include <utility>

#include "base/text.h"
#include "json/json_sax.h"

namespace facet {
namespace {

/// Where in the header the parser is.
enum class Place { kDocument, kNames, kMetadata, kEntry };
/// Whose value comes next inside an entry.
enum class Field { kNone, kDtype, kShape, kOffsets, kUnknown };

bool is_control_byte(char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; }

/// { kNames: "__metadata__": { kMetadata }, "name": { kEntry: "field": value, … }, … }
class HeaderHandler : public JsonSax {
 public:
  HeaderText release() { return std::move(result_); }

  bool on_object_begin(Code& code) {
    if (skipping()) {
      ++skip_depth_;
    } else if (place_ == Place::kDocument) {
      place_ = Place::kNames;
    } else if (place_ == Place::kNames) {
      return begin_member(code);
    } else {
      return wrong_kind(code, "an object");
    }
    return true;
  }

  bool on_object_end(size_t /*members*/, Code& code) {
    if (skip_depth_ > 0) {
      --skip_depth_;
    } else if (place_ == Place::kEntry) {
      place_ = Place::kNames;
      return finish_entry(code);
    } else {
      place_ = place_ == Place::kMetadata ? Place::kNames : Place::kDocument;
    }
    return true;
  }

  bool on_array_begin(Code& code) {
    if (skipping()) {
      ++skip_depth_;
      return true;
    }
    if (place_ != Place::kEntry || field_ == Field::kDtype || in_list_)
      return wrong_kind(code, "an array");
    in_list_ = true;
    numbers_ = 0;
    return true;
  }

  bool on_array_end(size_t /*elements*/, Code& code) {
    if (skipping()) {
      --skip_depth_;
      return true;
    }
    in_list_ = false;
    if (field_ == Field::kShape) {
      shape_ = Shape(std::span<const int64_t>(list_.data(), numbers_));
      return true;
    }
    if (numbers_ != 2) return wrong_kind(code, fmt::format("an array of {}", numbers_));
    offsets_ = {list_[0], list_[1]};
    return true;
  }

  bool on_key_part(Text part, size_t /*total*/, Code& /*code*/) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_key(Text part, size_t /*total*/, Code& code) {
    const std::string_view key = whole(part);
    if (skip_depth_ > 0) return true;
    if (place_ == Place::kEntry) return set_field(key, code);
    if (key.size() > kMaxTensorName)
      return refuse(code,
                    fmt::format("a name of {} bytes, more than {}", key.size(), kMaxTensorName));
    // Such a name could rewrite the terminal that a message is printed on, or end a C string early.
    if (std::any_of(key.begin(), key.end(), is_control_byte))
      return refuse(code, fmt::format("the name {} has control characters", printable(key, 80)));
    (place_ == Place::kMetadata ? metadata_key_ : name_) = key;
    return true;
  }

  bool on_string_part(Text part, size_t /*total*/, Code& /*code*/) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(Text part, size_t /*total*/, Code& code) {
    const std::string_view value = whole(part);
    if (skipping()) return true;
    if (place_ == Place::kMetadata) {
      if (!result_.metadata.emplace(metadata_key_, value).second) {
        return refuse(code,
                      fmt::format("__metadata__: {} appears twice", printable(metadata_key_)));
      }
      return true;
    }
    if (place_ != Place::kEntry || field_ != Field::kDtype) return wrong_kind(code, "a string");
    dtype_ = dtype_from_string(value);
    if (dtype_) return true;
    return refuse_entry(code, fmt::format("dtype {} is not known", printable(value, 40)));
  }

  bool on_number_part(Text /*part*/, Code& /*code*/) { return true; }
  bool on_int64(int64_t value, Text text, Code& code) {
    if (skipping()) return true;
    if (!in_list_) return wrong_kind(code, "a number");
    // "-0" is an integer to the parser, but no unsigned one.
    if (text.starts_with('-')) return wrong_number(text, code);
    if (numbers_ == list_.size()) {
      return refuse_entry(code,
                          fmt::format("{} holds more than {} numbers", field_name(), list_.size()));
    }
    list_[numbers_++] = value;
    return true;
  }
  bool on_uint64(uint64_t /*value*/, Text text, Code& code) { return wrong_number(text, code); }
  bool on_double(double /*value*/, Text text, Code& code) { return wrong_number(text, code); }
  bool on_bool(bool /*value*/, Code& code) { return skipping() || wrong_kind(code, "a boolean"); }
  bool on_null(Code& code) { return skipping() || wrong_kind(code, "null"); }

 private:
  /// Inside the value of an entry's member that means nothing to us.
  bool skipping() const { return place_ == Place::kEntry && field_ == Field::kUnknown; }

  /// The text of a key or string whose last part is `part`; valid until the next part.
  std::string_view whole(Text part) {
    if (text_.empty()) return {part.data(), part.size()};
    text_.append(part.data(), part.size());
    finished_ = std::exchange(text_, {});
    return finished_;
  }

  bool begin_member(Code& code) {
    if (name_ == "__metadata__") {
      place_ = Place::kMetadata;
      if (std::exchange(metadata_seen_, true)) return refuse(code, "__metadata__ appears twice");
      return true;
    }
    place_ = Place::kEntry;
    field_ = Field::kNone;
    dtype_.reset();
    shape_.reset();
    offsets_.reset();
    return true;
  }

  bool set_field(std::string_view key, Code& code) {
    field_ = key == "dtype"          ? Field::kDtype
             : key == "shape"        ? Field::kShape
             : key == "data_offsets" ? Field::kOffsets
                                     : Field::kUnknown;
    const bool twice = (field_ == Field::kDtype && dtype_) || (field_ == Field::kShape && shape_) ||
                       (field_ == Field::kOffsets && offsets_);
    return !twice || refuse_entry(code, fmt::format("{} appears twice", key));
  }

  bool finish_entry(Code& code) {
    if (!dtype_) return refuse_entry(code, "dtype is missing");
    if (!shape_) return refuse_entry(code, "shape is missing");
    if (!offsets_) return refuse_entry(code, "data_offsets is missing");
    result_.entries.push_back(
        {std::move(name_), *dtype_, *shape_, offsets_->first, offsets_->second});
    name_.clear();
    return true;
  }

  bool refuse_entry(Code& code, const std::string& why) {
    return refuse(code, fmt::format("tensor {}: {}", printable(name_), why));
  }

  bool wrong_number(Text text, Code& code) {
    if (skipping()) return true;
    if (!in_list_) return wrong_kind(code, "a number");
    const std::string number = printable({text.data(), text.size()}, 40);
    return refuse_entry(
        code, fmt::format("{} holds {}, wanted an integer of 0 to 2^63 - 1", field_name(), number));
  }

  bool wrong_kind(Code& code, std::string_view found) {
    if (place_ == Place::kMetadata) {
      return refuse(code, fmt::format("__metadata__: {} is {}, wanted a string",
                                      printable(metadata_key_), found));
    }
    if (place_ == Place::kNames)
      return refuse(code, fmt::format("{} is {}, wanted an object", printable(name_), found));
    const std::string_view wanted = field_ == Field::kDtype   ? "a string"
                                    : field_ == Field::kShape ? "an array of integers"
                                                              : "an array of two integers";
    const std::string_view holds = in_list_ ? "holds" : "is";
    return refuse_entry(code,
                        fmt::format("{} {} {}, wanted {}", field_name(), holds, found, wanted));
  }

  std::string_view field_name() const {
    return field_ == Field::kDtype ? "dtype" : field_ == Field::kShape ? "shape" : "data_offsets";
  }

  HeaderText result_;
  bool metadata_seen_ = false;

  Place place_ = Place::kDocument;
  std::string text_;      // parts of the key or string being read
  std::string finished_;  // holds what whole() returned
  std::string name_;
  std::string metadata_key_;

  // The entry being read.
  Field field_ = Field::kNone;
  std::optional<DType> dtype_;
  std::optional<Shape> shape_;
  std::optional<std::pair<int64_t, int64_t>> offsets_;
  bool in_list_ = false;
  std::array<int64_t, Shape::kMaxRank> list_{};
  size_t numbers_ = 0;      // of list_
  int32_t skip_depth_ = 0;  // open objects and arrays of a skipped value
};

}  // namespace

HeaderText parse_header_text(std::string_view json) {
  return run_json_parser<HeaderHandler>(json, ErrorCode::kBadCheckpoint);
}

std::optional<int64_t> stored_bits(DType dtype, const Shape& shape) {
  int64_t bits = 1;
  for (const int64_t extent : shape.extents()) {
    if (extent < 0 || __builtin_mul_overflow(bits, extent, &bits)) return std::nullopt;
  }
  if (__builtin_mul_overflow(bits, bits_of(dtype), &bits)) return std::nullopt;
  return bits;
}

}  // namespace facet
