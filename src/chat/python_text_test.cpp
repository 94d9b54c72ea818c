#include "chat/python_text.h"

#include <gtest/gtest.h>
#include <string>
#include <utility>

namespace facet {
namespace {

// Left: JSON; right: what Python prints for json.loads of it.
TEST(PythonText, Numbers) {
  const std::pair<const char*, const char*> kCases[] = {
      {"1", "1"},
      {"-0", "0"},
      {"-5", "-5"},
      {"123456789012345678901234567890", "123456789012345678901234567890"},
      {"1.0", "1.0"},
      {"-0.0", "-0.0"},
      {"1e5", "100000.0"},
      {"1E+16", "1e+16"},
      {"1e15", "1000000000000000.0"},
      {"9999999999999998.0", "9999999999999998.0"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"0.000123456", "0.000123456"},
      {"1e-400", "0.0"},
      {"5e-324", "5e-324"},
      {"1.7976931348623157e308", "1.7976931348623157e+308"},
      {"0.1", "0.1"},
      {"0.30000000000000004", "0.30000000000000004"},
      {"2.5", "2.5"},
      {"123456.789e3", "123456789.0"},
      {"9007199254740993.0", "9007199254740992.0"},
      {"1.10", "1.1"},
  };
  for (const auto& [json, text] : kCases) EXPECT_EQ(number_text(Number{json}), text) << json;
}

TEST(PythonText, Values) {
  const std::pair<const char*, const char*> kCases[] = {
      {"null", "None"},
      {"true", "True"},
      {"false", "False"},
      {"\"it's\"", "it's"},
      {"1.50", "1.5"},
      {"[]", "[]"},
      {R"(["a",null,true,1e16])", "['a', None, True, 1e+16]"},
      {R"(["it's"])", "[\"it's\"]"},
      {R"(["it's \"x\""])", R"(['it\'s "x"'])"},
      {R"(["a\\b\n\t\r\u0001\u007f"])", R"(['a\\b\n\t\r\x01\x7f'])"},
      {R"({"b":[1],"a":{}})", "{'b': [1], 'a': {}}"},
  };
  for (const auto& [json, text] : kCases) EXPECT_EQ(python_text(parse_value(json)), text) << json;
}

}  // namespace
}  // namespace facet
