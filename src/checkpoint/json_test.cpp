#include "checkpoint/json.h"

#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support.h"

namespace facet {
namespace {

using testing::HasSubstr;

template <typename Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

std::string parse_error(std::string_view text) {
  return error_of([&] { parse_json(text); });
}

TEST(Json, KeepsEveryKindOfValue) {
  const auto value = parse_json(
      R"( {"i":-3,"u":18446744073709551615,"d":1e-06,"s":"\u00e9\ud83d\ude00","b":[true,null]} )");
  EXPECT_EQ(value.at("i").as_int64(), -3);
  EXPECT_EQ(value.at("u").as_uint64(), UINT64_MAX);
  EXPECT_EQ(value.at("d").as_double(), 1e-06);
  EXPECT_EQ(value.at("s").as_string(), "é😀");
  EXPECT_EQ(boost::json::serialize(value.at("b")), "[true,null]");
  EXPECT_EQ(parse_json("12").as_int64(), 12);
  EXPECT_EQ(parse_json("0.5").as_double(), 0.5);
}

TEST(Json, DoublesAreTheNearest) {
  for (const char* text :
       {"0.1", "9007199254740993.5", "1.7976931348623157e308", "2.2250738585072014E-308",
        "0.3333333333333333148296162562473909929394721984863281250001",
        "123456789012345678901234567890", "5e-324"}) {
    EXPECT_EQ(parse_json(text).as_double(), std::strtod(text, nullptr)) << text;
    EXPECT_EQ(parse_json("[" + std::string(text) + "]").at(0).as_double(),
              std::strtod(text, nullptr))
        << text;
  }
  EXPECT_EQ(parse_json("1e-400").as_double(), 0.0);
  EXPECT_THAT(parse_error("[1e400]"), HasSubstr("number 1e400 does not fit a double"));
}

TEST(Json, DuplicateNamesAreRefusedAtAnyDepth) {
  EXPECT_EQ(parse_error(R"({"a":1,"a":2})"), "duplicate name \"a\" (byte 9)");
  EXPECT_THAT(parse_error(R"({"x":[{"b":1,"c":{},"b":2}]})"), HasSubstr("duplicate name \"b\""));
  EXPECT_THAT(parse_error(R"({"ab":1,"a\u0062":2})"), HasSubstr("duplicate name \"ab\""));
  EXPECT_THAT(parse_error(R"({"":1,"":2})"), HasSubstr("duplicate name \"\""));
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":{"a":1}},"b":{"a":1},"c":[{"a":1},{"a":1}]})"));
}

TEST(Json, MalformedTextIsRefusedWithItsPlace) {
  EXPECT_THAT(parse_error(""), HasSubstr("cut off (byte 0)"));
  EXPECT_THAT(parse_error("{\"a\":1"), HasSubstr("cut off (byte 6)"));
  EXPECT_THAT(parse_error("{\"a\":1} x"), HasSubstr("after the end of the JSON document (byte 8)"));
  EXPECT_THAT(parse_error("{\"a\":01}"), HasSubstr("(byte 6)"));
  for (const char* text : {"[NaN]", "[Infinity]", "[-Infinity]", "[1,]", "{\"a\":1,}", "[.5]",
                           "[1.]", "[+1]", "{a:1}", "['a']", "[1]//c", "[\"\t\"]", "\xEF\xBB\xBF{}",
                           "[\"\\ud800\"]", "[\"\\x\"]", "[tru]", "[0x10]"}) {
    EXPECT_NE(parse_error(text), "") << text;
  }
}

TEST(Json, IllFormedUtf8IsRefused) {
  EXPECT_EQ(parse_error("[\"ab\xFF\"]"), "ill-formed UTF-8 (byte 4)");
  EXPECT_EQ(parse_error("[\"\xC0\xAF\"]"), "ill-formed UTF-8 (byte 2)");
  EXPECT_EQ(parse_error("{\"\xED\xA0\x80\":1}"), "ill-formed UTF-8 (byte 2)");
  EXPECT_EQ(parse_error("[\"\xF4\x90\x80\x80\"]"), "ill-formed UTF-8 (byte 2)");
  EXPECT_EQ(parse_error("[\"\xE2\x82"), "ill-formed UTF-8 (byte 2)");
  EXPECT_EQ(parse_error("[1]\xFF"), "ill-formed UTF-8 (byte 3)");
}

TEST(Json, DepthIsLimited) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(64)));
  EXPECT_THAT(parse_error(nested(65)), HasSubstr("nested more than 64 deep"));
  EXPECT_THAT(parse_error(std::string(1'000'000, '[')), HasSubstr("nested more than 64 deep"));
}

TEST(Json, ObjectsAreReadFromFilesUnderALimit) {
  const test::TempDir dir;
  dir.write("config.json", R"({"a": 1})");
  EXPECT_EQ(read_json_object(dir.path("config.json")).at("a").as_int64(), 1);
  const auto file_error = [&](std::string_view content) {
    dir.write("config.json", content);
    return error_of([&] { read_json_object(dir.path("config.json"), 20); });
  };
  EXPECT_THAT(file_error("[1, 2]"), testing::StartsWith("config.json: found an array of 2"));
  EXPECT_THAT(file_error("{"), testing::StartsWith("config.json: the JSON text is cut off"));
  EXPECT_THAT(file_error(std::string(21, ' ')),
              testing::StartsWith("config.json: 21 bytes, more than the 20"));
  try {
    read_json_object(dir.path("none.json"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_EQ(error.place(), "none.json");
  }
}

class JsonReaderTest : public testing::Test {
 protected:
  boost::json::object object_ =
      parse_json(R"({"i":7,"big":9223372036854775808,"f":1.0,"s":"seven","b":true,"n":null,
                     "is":[1,2],"ss":["a","b"],"mixed":[1,"x"],"o":{"x":1},"e":[]})")
          .as_object();
  JsonReader reader_{object_, "config.json: text_config"};
};

TEST_F(JsonReaderTest, GivesValuesOfTheirType) {
  EXPECT_EQ(reader_.integer("i"), 7);
  EXPECT_EQ(reader_.number("i"), 7.0);
  EXPECT_EQ(reader_.number("f"), 1.0);
  EXPECT_EQ(reader_.number("big"), 9223372036854775808.0);
  EXPECT_EQ(reader_.boolean("b"), true);
  EXPECT_EQ(reader_.string("s"), "seven");
  EXPECT_EQ(reader_.strings("ss"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(reader_.strings("e"), std::vector<std::string>{});
  EXPECT_EQ(reader_.integers("is"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(reader_.integers("i"), std::vector<int64_t>{7});
  EXPECT_EQ(reader_.object("o")->integer("x"), 1);
  EXPECT_EQ(reader_.object("o")->place(), "config.json: text_config: o");
}

TEST_F(JsonReaderTest, AbsentAndNullAreNothing) {
  for (const char* name : {"absent", "n"}) {
    EXPECT_EQ(reader_.integer(name), std::nullopt);
    EXPECT_EQ(reader_.number(name), std::nullopt);
    EXPECT_EQ(reader_.boolean(name), std::nullopt);
    EXPECT_EQ(reader_.string(name), std::nullopt);
    EXPECT_EQ(reader_.strings(name), std::nullopt);
    EXPECT_EQ(reader_.integers(name), std::nullopt);
    EXPECT_FALSE(reader_.object(name).has_value());
    EXPECT_EQ(reader_.find(name), nullptr);
  }
}

TEST_F(JsonReaderTest, AnotherTypeIsAnErrorThatNamesTheField) {
  EXPECT_EQ(error_of([&] { reader_.integer("s"); }),
            "config.json: text_config: field s: found the string \"seven\", wanted an integer");
  EXPECT_THAT(error_of([&] { reader_.integer("f"); }), HasSubstr("wanted an integer"));
  EXPECT_THAT(error_of([&] { reader_.integer("b"); }), HasSubstr("found true, wanted an integer"));
  EXPECT_THAT(error_of([&] { reader_.integer("big"); }), HasSubstr("found 9223372036854775808"));
  EXPECT_THAT(error_of([&] { reader_.number("s"); }), HasSubstr("wanted a number"));
  EXPECT_THAT(error_of([&] { reader_.boolean("i"); }), HasSubstr("found 7, wanted true or false"));
  EXPECT_THAT(error_of([&] { reader_.string("i"); }), HasSubstr("found 7, wanted a string"));
  EXPECT_THAT(error_of([&] { reader_.strings("s"); }), HasSubstr("wanted a list of strings"));
  EXPECT_THAT(error_of([&] { reader_.strings("mixed"); }), HasSubstr("element 0 is 1"));
  EXPECT_THAT(error_of([&] { reader_.integers("mixed"); }),
              HasSubstr("element 1 is the string \"x\""));
  EXPECT_THAT(error_of([&] { reader_.integers("o"); }), HasSubstr("found an object"));
  EXPECT_THAT(error_of([&] { reader_.object("is"); }), HasSubstr("found an array of 2"));
}

}  // namespace
}  // namespace facet
