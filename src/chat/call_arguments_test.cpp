#include "chat/call_arguments.h"

#include <gtest/gtest.h>

#include "chat/argument_values.h"
#include "chat/output_test_parts.h"

namespace facet {
namespace {

// Arguments from just behind the opening bracket; the call ends with the text if not before. What
// is left of the text behind the call's end follows after '|'.
std::string convert(std::string_view shown,
                    const DeclaredTool* tool = nullptr,
                    CallOpener opener = CallOpener::kBrace) {
  std::string json;
  CallArguments arguments(opener, tool, json);
  std::string rest;
  const auto push = [&](std::string_view text) {
    if (arguments.ended()) {
      rest += text;
    } else {
      rest += text.substr(arguments.push_text(text, json));
    }
  };
  for (const test::OutputPiece& piece : test::output_pieces(shown)) {
    push(piece.text);
    if (!piece.control || arguments.ended()) continue;
    rest += arguments.settle(json);
    if (!arguments.ended()) arguments.push_delimiter(json);
  }
  if (!arguments.ended()) rest += arguments.settle(json);
  if (!arguments.ended()) arguments.close(json);
  return rest.empty() ? json : json + "|" + rest;
}

DeclaredTool weather() {
  return declared_tools(parse_value(R"([{"type":"function","function":{"name":"w",
    "parameters":{"type":"object","properties":{
      "city":{"type":"string"},"days":{"type":"integer"},"metric":{"type":"BOOLEAN"},
      "rate":{"type":"number"},"maybe":{"type":["integer","null"]},
      "either":{"type":["string","integer"]},"tags":{"type":"array"},"opts":{"type":"object"},
      "untyped":{"anyOf":[{"type":"integer"}]}}}}}])"))[0];
}

TEST(CallArguments, PairsAndBlanks) {
  EXPECT_EQ(convert("}"), "{}");
  EXPECT_EQ(convert(""), "{}");
  EXPECT_EQ(convert(" a : 1 ,\n b:<|\"|> q <|\"|> } "), R"({"a":1,"b":" q "}| )");
  EXPECT_EQ(convert("a:,b:}"), R"({"a":"","b":""})");
  EXPECT_EQ(convert("a"), "{}");
  EXPECT_EQ(convert("a:"), R"({"a":""})");
  EXPECT_EQ(convert("a,b:1,,c:2,}"), R"({"b":1,"c":2})");
  EXPECT_EQ(convert(":1}"), R"({"":1})");
  EXPECT_EQ(convert("\xC2\xA0"
                    "a\xE3\x80\x80:\xE2\x80\x89"
                    "1}"),
            R"({"a":1})");
}

TEST(CallArguments, Keys) {
  EXPECT_EQ(convert("<|\"|>k:,}<|\"|> junk :1}"), R"({"k:,}":1})");
  EXPECT_EQ(convert(R"("k\n:}" junk:1})"), R"({"k\n:}":1})");
  EXPECT_EQ(convert("<|\"|>k<|\"|>,b:1}"), R"({"b":1})");
  EXPECT_EQ(convert(R"("k,b:1})"), R"({"b":1})");
  EXPECT_EQ(convert(R"("k:1})"), R"({"\"k":1})");
}

TEST(CallArguments, Numbers) {
  EXPECT_EQ(convert("a:0,b:-0.50,c:1E+05,d:12345678901234567890123}"),
            R"({"a":0,"b":-0.50,"c":1E+05,"d":12345678901234567890123})");
  // Brackets deeper than a request may hold are text.
  const auto lists = [](size_t depth) {
    return std::string(depth, '[') + "1" + std::string(depth, ']');
  };
  EXPECT_EQ(convert("a:" + lists(63) + "}"), R"({"a":)" + lists(63) + "}");
  const std::string deepest = std::string(63, '[') + R"("[1]")" + std::string(63, ']');
  EXPECT_EQ(convert("a:" + lists(64) + ",b:2}"), R"({"a":)" + deepest + R"(,"b":2})");
  // Numbers that no double holds are text, since no request may hold them; integers may be longer.
  EXPECT_EQ(
      convert("a:1e999,b:-1.5e400,c:1e-999,e:3E-71111051711111,d:12345678901234567890123}"),
      R"({"a":"1e999","b":"-1.5e400","c":1e-999,"e":"3E-71111051711111","d":12345678901234567890123})");
  EXPECT_EQ(convert("a:007,b:1.,c:.5,d:+1,e:1e,f:-,g:0x1,h:NaN,i:1 2}"),
            R"({"a":"007","b":"1.","c":".5","d":"+1","e":"1e","f":"-","g":"0x1","h":"NaN",)"
            R"("i":"1 2"})");
}

TEST(CallArguments, Literals) {
  EXPECT_EQ(convert("a:true,b:True,c:false,d:False,e:null,f:None,g:TRUE}"),
            R"({"a":true,"b":true,"c":false,"d":false,"e":null,"f":null,"g":"TRUE"})");
}

TEST(CallArguments, ListsAndObjects) {
  EXPECT_EQ(convert("l:[],o:{},m:[[],{}]}"), R"({"l":[],"o":{},"m":[[],{}]})");
  EXPECT_EQ(convert("l:[1,<|\"|>a,]<|\"|>, x y ,\"q]\"]}"), R"({"l":[1,"a,]","x y","q]"]})");
  EXPECT_EQ(convert("l:[,1,]}"), R"({"l":["",1]})");
  EXPECT_EQ(convert("o:{a:{b:[{c:1}]}},z:2}"), R"({"o":{"a":{"b":[{"c":1}]}},"z":2})");
  EXPECT_EQ(convert("o:{a:[1"), R"({"o":{"a":[1]}})");
  EXPECT_EQ(convert("o:{a:[1},z:2}"), R"({"o":{"a":[1],"z":2}})");
  EXPECT_EQ(convert("o:{a:1} junk {,} ,b:2}"), R"({"o":{"a":1},"b":2})");
}

TEST(CallArguments, DelimitedStrings) {
  EXPECT_EQ(convert("s:<|\"|>\"\\\b\f\n\r\t\x01\x1F\x7F/é<|\"|>}"),
            "{\"s\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7F/é\"}");
  EXPECT_EQ(convert("s:<|\"|>}]} x ]<|\"|> junk, t:1}"), R"({"s":"}]} x ]","t":1})");
  EXPECT_EQ(convert("s:<|\"|>a}b}]}"), R"({"s":"a}b"})");
  EXPECT_EQ(convert("s:[{k:<|\"|>x}]}"), R"({"s":[{"k":"x"}]})");
  EXPECT_EQ(convert("s:<|\"|>}}"), R"({"s":""})");
}

TEST(CallArguments, JsonStrings) {
  EXPECT_EQ(convert(R"("a":"x\"}\u00e9\ud83e\udd99", b:"" })"),
            "{\"a\":\"x\\\"}é🦙\",\"b\":\"\"}");
  EXPECT_EQ(convert("a:\"x\ny\"}"), R"({"a":"x\ny"})");
  // Not JSON strings: the characters as they are.
  EXPECT_EQ(convert(R"(a:"C:\dir",b:"\ud800"})"), R"({"a":"C:\\dir","b":"\\ud800"})");
  // Unclosed: bare text, which commas and brackets end.
  EXPECT_EQ(convert(R"(a:"x,b:[1]})"), R"({"a":"\"x","b":[1]})");
  EXPECT_EQ(convert(R"(a:"x} tail)"), R"({"a":"\"x"}| tail)");
  EXPECT_EQ(convert(R"(a:"x\"} tail)"), R"({"a":"\"x\\\""}| tail)");
  EXPECT_EQ(convert("a:\"x,b:<|\"|>Oslo<|\"|>}"), R"({"a":"\"x","b":"Oslo"})");
}

TEST(CallArguments, BracketsWithinBareText) {
  EXPECT_EQ(convert("a:f[1,2]{x},b:1}"), R"({"a":"f[1,2]{x}","b":1})");
  EXPECT_EQ(convert("a:x<|\"|>,}<|\"|>y,b:1}"), R"({"a":"x,}y","b":1})");
  EXPECT_EQ(convert("a:5\" x,b:1}"), R"({"a":"5\" x","b":1})");
}

TEST(CallArguments, Parentheses) {
  const auto parenthesis = [](std::string_view text) {
    return convert(text, nullptr, CallOpener::kParenthesis);
  };
  EXPECT_EQ(parenthesis("a:1)x"), "{\"a\":1}|x");
  EXPECT_EQ(parenthesis("a:[f(x)],b:1)"), "{\"a\":[\"f(x)\"],\"b\":1}");
  EXPECT_EQ(parenthesis("a:<|\"|>)<|\"|>)"), "{\"a\":\")\"}");
  EXPECT_EQ(convert("a:f(x),b:1}"), "{\"a\":\"f(x)\",\"b\":1}");
}

TEST(CallArguments, DeclaredTypes) {
  const DeclaredTool tool = weather();
  const auto typed = [&tool](std::string_view text) { return convert(text, &tool); };
  EXPECT_EQ(typed("city:123}"), R"({"city":"123"})");
  EXPECT_EQ(typed("city:True}"), R"({"city":"True"})");
  EXPECT_EQ(typed("city:<|\"|>123<|\"|>}"), R"({"city":"123"})");
  EXPECT_EQ(typed("either:12}"), R"({"either":12})");
  EXPECT_EQ(typed("either:<|\"|>12<|\"|>}"), R"({"either":"12"})");
  EXPECT_EQ(typed("days:<|\"|>3<|\"|>}"), R"({"days":3})");
  EXPECT_EQ(typed("days:\"3\"}"), R"({"days":3})");
  EXPECT_EQ(typed("days:<|\"|>3.5<|\"|>,rate:<|\"|>3.50<|\"|>}"), R"({"days":"3.5","rate":3.50})");
  EXPECT_EQ(typed("days:<|\"|>3}"), R"({"days":3})");
  EXPECT_EQ(typed("days:<|\"|>three<|\"|>}"), R"({"days":"three"})");
  EXPECT_EQ(typed("metric:<|\"|>true<|\"|>,days:<|\"|>true<|\"|>}"),
            R"({"metric":true,"days":"true"})");
  EXPECT_EQ(typed("maybe:<|\"|>null<|\"|>,days:<|\"|>null<|\"|>}"),
            R"({"maybe":null,"days":"null"})");
  EXPECT_EQ(typed("tags:<|\"|>[ 1.0, \"a b\" ]<|\"|>}"), R"({"tags":[1.0,"a b"]})");
  EXPECT_EQ(typed("opts:<|\"|>{\"a\\\" :\": 1}<|\"|>}"), R"({"opts":{"a\" :":1}})");
  EXPECT_EQ(typed("opts:<|\"|>[1]<|\"|>,tags:<|\"|>[1<|\"|>}"), R"({"opts":"[1]","tags":"[1"})");
  EXPECT_EQ(typed("untyped:<|\"|>3<|\"|>,unknown:<|\"|>3<|\"|>}"),
            R"({"untyped":"3","unknown":"3"})");
  // Top-level parameters only.
  EXPECT_EQ(typed("opts:{days:<|\"|>3<|\"|>,city:3},tags:[<|\"|>3<|\"|>]}"),
            R"({"opts":{"days":"3","city":3},"tags":["3"]})");
}

TEST(CallArguments, StreamsWhatIsCertain) {
  const DeclaredTool tool = weather();
  std::string json;
  CallArguments arguments(CallOpener::kBrace, &tool, json);
  const auto after = [&](std::string_view text) {
    EXPECT_EQ(arguments.push_text(text, json), text.size());
    return json;
  };
  EXPECT_EQ(json, "{");
  EXPECT_EQ(after("city"), "{");
  EXPECT_EQ(after(":"), "{\"city\":");
  arguments.push_delimiter(json);
  EXPECT_EQ(after("Os"), "{\"city\":\"Os");
  EXPECT_EQ(after("}]"), "{\"city\":\"Os");
  EXPECT_EQ(after("l"), "{\"city\":\"Os}]l");
  arguments.push_delimiter(json);
  EXPECT_EQ(json, "{\"city\":\"Os}]l\"");
  EXPECT_EQ(after(",days:"), "{\"city\":\"Os}]l\",\"days\":");
  arguments.push_delimiter(json);
  EXPECT_EQ(after("12"), "{\"city\":\"Os}]l\",\"days\":");
  arguments.push_delimiter(json);
  EXPECT_EQ(json, "{\"city\":\"Os}]l\",\"days\":12");
}

TEST(CallArguments, ManyNestedBracketsAreNoProblem) {
  const std::string json = convert("a:" + std::string(200000, '['));
  const std::string want = "{\"a\":" + std::string(63, '[') + '"' + std::string(200000 - 63, '[') +
                           '"' + std::string(63, ']') + "}";
  EXPECT_TRUE(json == want) << json.size() << " bytes, wanted " << want.size();
}

TEST(DeclaredTools, LeavesOutWhatHasAnotherShape) {
  const auto tools = declared_tools(parse_value(
      R"([1,{"function":3},{"function":{"name":7}},{"function":{"name":"f","parameters":[]}},
          {"function":{"name":"g","parameters":{"properties":{"a":1,"b":{"type":[1,"X"]}}}}}])"));
  ASSERT_EQ(tools.size(), 2U);
  EXPECT_EQ(tools[0].name, "f");
  EXPECT_TRUE(tools[0].parameters.empty());
  ASSERT_EQ(tools[1].parameters.size(), 2U);
  EXPECT_TRUE(tools[1].parameter("a")->types.empty());
  EXPECT_EQ(tools[1].parameter("b")->types, (std::vector<std::string>{"x"}));
  EXPECT_EQ(tools[1].parameter("c"), nullptr);
  EXPECT_TRUE(declared_tools(parse_value("3")).empty());
}

}  // namespace
}  // namespace facet
