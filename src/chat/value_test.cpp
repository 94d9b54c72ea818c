#include "chat/value.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <string>

#include "base/error.h"

namespace facet {
namespace {

std::string refusal(std::string_view json) {
  try {
    parse_value(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    return error.what();
  }
  return "accepted";
}

TEST(Value, KeepsOrderAndDigits) {
  const Value value = parse_value(R"({"b":1e+20,"a":[1.0,-0,123456789012345678901234567890]})");
  ASSERT_EQ(value.object().size(), 2U);
  EXPECT_EQ(value.object()[0].name, "b");
  EXPECT_EQ(value.object()[0].value.number().text, "1e+20");
  EXPECT_EQ(value.object()[1].name, "a");
  const Value::Array& list = value.object()[1].value.array();
  EXPECT_EQ(list[0].number().text, "1.0");
  EXPECT_FALSE(list[0].number().is_integer());
  EXPECT_EQ(list[1].number().text, "-0");
  EXPECT_TRUE(list[2].number().is_integer());
  EXPECT_EQ(list[2].number().text, "123456789012345678901234567890");
  EXPECT_EQ(list[2].number().as_int64(), std::nullopt);
}

TEST(Value, LastOfEqualNamesCountsAtThePlaceOfTheFirst) {
  const Value value = parse_value(R"({"a":1,"b":2,"a":{"x":0},"\u0061":3})");
  ASSERT_EQ(value.object().size(), 2U);
  EXPECT_EQ(value.object()[0].name, "a");
  EXPECT_EQ(value.object()[0].value.number().text, "3");
  EXPECT_EQ(value.object()[1].name, "b");
}

TEST(Value, Strings) {
  EXPECT_EQ(parse_value(R"("a\n\u00e9\ud83d\ude00\\")").string(), "a\n\xC3\xA9\xF0\x9F\x98\x80\\");
  EXPECT_EQ(parse_value(R"("\u0000")").string(), std::string(1, '\0'));
  const std::string longer(100000, 'x');
  EXPECT_EQ(parse_value('"' + longer + '"').string(), longer);
}

TEST(Value, Doubles) {
  const auto as_double = [](const char* text) { return Number{text}.as_double(); };
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(as_double("0.1"), 0.1);
  EXPECT_EQ(as_double("4.9e-324"), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(as_double("1e-400"), 0.0);
  EXPECT_TRUE(std::signbit(as_double("-1e-400")));
  EXPECT_EQ(as_double("0.0001e-99999999999999999999999"), 0.0);
  EXPECT_EQ(as_double("0e99999999999999999999999"), 0.0);
  EXPECT_EQ(as_double("1e400"), infinity);
  EXPECT_EQ(as_double(std::string(400, '9').c_str()), infinity);
  EXPECT_EQ(as_double(("0." + std::string(400, '0') + "1").c_str()), 0.0);
  EXPECT_EQ(as_double(("-" + std::string(400, '9') + ".5").c_str()), -infinity);
  EXPECT_EQ(Number{"-9223372036854775808"}.as_int64(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(Number{"9223372036854775808"}.as_int64(), std::nullopt);
  EXPECT_EQ(Number{"1.0"}.as_int64(), std::nullopt);
}

TEST(Value, Empty) {
  for (const char* json : {"null", "\"\"", "[]", "{}", "false", "0", "0.0", "-0", "0e5", "1e-400"})
    EXPECT_TRUE(parse_value(json).is_empty()) << json;
  for (const char* json : {"\" \"", "[null]", "{\"\":0}", "true", "1", "-0.1", "5e-324"})
    EXPECT_FALSE(parse_value(json).is_empty()) << json;
}

TEST(Value, FindDistinguishesNull) {
  const Value value = parse_value(R"({"n":null,"s":""})");
  ASSERT_NE(value.find("n"), nullptr);
  EXPECT_EQ(value.find_set("n"), nullptr);
  EXPECT_NE(value.find_set("s"), nullptr);
  EXPECT_EQ(value.find("missing"), nullptr);
  EXPECT_EQ(parse_value("[1]").find("n"), nullptr);
}

TEST(Value, RefusesWhatIsNotOneDocument) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal("{\"a\":1} x"), HasSubstr("after the end"));
  EXPECT_THAT(refusal("{\"a\":1} x"), HasSubstr("(byte 8)"));
  EXPECT_THAT(refusal("{\"a\":"), HasSubstr("cut off"));
  EXPECT_THAT(refusal(""), HasSubstr("cut off"));
  EXPECT_THAT(refusal("\"a\xFF\""), HasSubstr("ill-formed UTF-8 (byte 2)"));
  EXPECT_THAT(refusal("[1e999]"), HasSubstr("number 1e999 does not fit"));
  for (const char* json : {"[1,]", "{'a':1}", "[01]", "nul", "NaN", "[+1]", "\"\\ud800\"", "/**/1"})
    EXPECT_NE(refusal(json), "accepted") << json;
}

TEST(Value, DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(refusal(nested(64)), "accepted");
  EXPECT_THAT(refusal(nested(65)), testing::HasSubstr("more than 64 deep"));
  EXPECT_THAT(refusal(std::string(1000000, '[')), testing::HasSubstr("more than 64 deep"));
}

TEST(Value, ManyMembersTakeLinearTime) {
  std::string json = "{";
  for (int i = 0; i < 200000; ++i) json += "\"k" + std::to_string(i) + "\":1,";
  json += "\"k0\":2}";
  const Value value = parse_value(json);
  EXPECT_EQ(value.object().size(), 200000U);
  EXPECT_EQ(value.object()[0].value.number().text, "2");
}

}  // namespace
}  // namespace facet
