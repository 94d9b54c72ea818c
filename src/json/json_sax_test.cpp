#include "json/json_sax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace facet {
namespace {

using testing::HasSubstr;

/// Counts the scalars of a document; refuses nulls.
class ScalarCounter : public JsonSax {
 public:
  explicit ScalarCounter(int first) : count_(first) {}
  int release() const { return count_; }

  bool on_object_begin(Code& /*code*/) { return true; }
  bool on_object_end(size_t /*members*/, Code& /*code*/) { return true; }
  bool on_array_begin(Code& /*code*/) { return true; }
  bool on_array_end(size_t /*elements*/, Code& /*code*/) { return true; }
  bool on_key_part(Text /*text*/, size_t /*total*/, Code& /*code*/) { return true; }
  bool on_key(Text /*text*/, size_t /*total*/, Code& /*code*/) { return true; }
  bool on_string_part(Text /*text*/, size_t /*total*/, Code& /*code*/) { return true; }
  bool on_string(Text /*text*/, size_t /*total*/, Code& /*code*/) { return counted(); }
  bool on_number_part(Text /*text*/, Code& /*code*/) { return true; }
  bool on_int64(int64_t /*value*/, Text /*text*/, Code& /*code*/) { return counted(); }
  bool on_uint64(uint64_t /*value*/, Text /*text*/, Code& /*code*/) { return counted(); }
  bool on_double(double /*value*/, Text /*text*/, Code& /*code*/) { return counted(); }
  bool on_bool(bool /*value*/, Code& /*code*/) { return counted(); }
  bool on_null(Code& code) { return refuse(code, "a null, wanted none"); }

 private:
  bool counted() {
    ++count_;
    return true;
  }
  int count_;
};

std::string refusal(std::string_view text, ErrorCode wanted = ErrorCode::kBadInput) {
  try {
    run_json_parser<ScalarCounter>(text, wanted, 0);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), wanted);
    return error.what();
  }
  return {};
}

TEST(JsonSax, HandsTheWholeDocumentToTheHandler) {
  EXPECT_EQ(
      run_json_parser<ScalarCounter>(R"({"a":[1,2.5,true],"b":"x"})", ErrorCode::kBadInput, 10),
      14);
}

TEST(JsonSax, FailuresCarryTheCallersCodeAndTheByte) {
  for (const ErrorCode code : {ErrorCode::kBadInput, ErrorCode::kBadCheckpoint}) {
    EXPECT_EQ(refusal("[1] x", code), "text after the end of the JSON document (byte 4)");
    EXPECT_EQ(refusal("[1,", code), "the JSON text is cut off (byte 3)");
    EXPECT_THAT(refusal("[1,null]", code), HasSubstr("a null, wanted none (byte "));
    EXPECT_EQ(refusal("[\"\xFF\"]", code), "ill-formed UTF-8 (byte 2)");
    EXPECT_THAT(refusal("{a:1}", code), HasSubstr("not JSON: "));
  }
}

TEST(JsonSax, DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(refusal(nested(kMaxJsonDepth)), "");
  EXPECT_THAT(refusal(nested(kMaxJsonDepth + 1)), HasSubstr("nested more than 64 deep"));
}

}  // namespace
}  // namespace facet
