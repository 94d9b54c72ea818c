#include "chat/tool_declaration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>

#include "base/error.h"

namespace facet {
namespace {

/// The declaration with string delimiters shown as ~.
std::string declare(const std::string& function) {
  PromptWriter out;
  write_declaration(out, parse_value("{\"function\":" + function + "}"), "null");
  std::string text;
  for (const PromptItem& item : out.release()) text += item.control ? "~" : item.text;
  return text;
}

/// What is written between the braces of one property `p` of that schema.
std::string property(const std::string& schema) {
  const std::string text =
      declare(R"({"name":"f","parameters":{"properties":{"p":)" + schema + "}}}");
  const std::string head = "declaration:f{description:~~,parameters:{properties:{p:{";
  const std::string tail = "}},}";
  EXPECT_TRUE(text.starts_with(head) && text.ends_with(tail)) << text;
  return text.substr(head.size(), text.size() - head.size() - tail.size());
}

std::string refusal(const std::string& function) {
  try {
    declare(function);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    return error.what();
  }
  return "accepted";
}

TEST(ToolDeclaration, SortsByLowerCasedNameKeepingEqualOnes) {
  const Value value = parse_value(R"({"b":1,"B":2,"a":3,"Ä":4,"_":5,"Z":6,"ß":7,"SS":8})");
  std::string order;
  for (const Member* member : sorted_members(value.object())) order += member->name + " ";
  EXPECT_EQ(order, "_ a b B SS Z ß Ä ");
}

TEST(ToolDeclaration, Values) {
  const auto text = [](const char* json, KeyStyle keys, const char* null_word) {
    PromptWriter out;
    write_value(out, parse_value(json), keys, null_word);
    return to_text(out.release());
  };
  const char* json = R"({"b":[null,1.0,"<|\"|>"],"A":{"x":true}})";
  EXPECT_EQ(text(json, KeyStyle::kBare, "None"), "{A:{x:true},b:[None,1.0,<|\"|><|\"|><|\"|>]}");
  EXPECT_EQ(text(json, KeyStyle::kQuoted, "null"),
            "{<|\"|>A<|\"|>:{<|\"|>x<|\"|>:true},<|\"|>b<|\"|>:[null,1.0,<|\"|><|\"|><|\"|>]}");
}

TEST(ToolDeclaration, Properties) {
  EXPECT_EQ(property(R"("text")"), "type:~~");
  EXPECT_EQ(property("false"), "type:~~");
  EXPECT_EQ(property(R"({"type":"straße"})"), "type:~STRASSE~");
  EXPECT_EQ(property(R"({"type":["string","null"],"enum":["a"]})"), "type:~['STRING', 'NULL']~");
  EXPECT_EQ(property(R"({"type":null})"), "type:~NONE~");
  EXPECT_EQ(property(R"({"type":"String","enum":["a",1,null,{"k":2.50}]})"),
            "enum:[~a~,1,null,{~k~:2.5}],type:~STRING~");
  EXPECT_EQ(property(R"({"type":"integer","nullable":true,"enum":[1],"description":"d"})"),
            "description:~d~,nullable:true,type:~INTEGER~");
  EXPECT_EQ(property(R"({"type":"object","nullable":1,"required":["x",2]})"),
            "nullable:true,properties:{},required:[~x~,~2~],type:~OBJECT~");
  EXPECT_EQ(property(R"({"type":"object","properties":{"type":{"type":"string"}}})"),
            "properties:{type:{type:~STRING~}},type:~OBJECT~");
  EXPECT_EQ(property(R"({"type":"object","properties":[],"additionalProperties":false})"),
            "properties:{additionalProperties:{type:~~}},type:~OBJECT~");
}

TEST(ToolDeclaration, Items) {
  EXPECT_EQ(property(R"({"type":"array","items":[{"type":"string"}]})"), "type:~ARRAY~");
  EXPECT_EQ(property(R"({"type":"array","items":{"properties":1,"required":[],"a":null}})"),
            "items:{properties:{},required:[]},type:~ARRAY~");
  EXPECT_EQ(property(R"({"type":"array","items":{"type":["a",null],"X":{"b":1,"A":[]}}})"),
            "items:{type:[~A~,~NONE~],X:{~A~:[],~b~:1}},type:~ARRAY~");
  EXPECT_EQ(
      property(R"({"type":"array","items":{"type":"object","properties":{"q":{"type":"array",)"
               R"("items":{"type":"string"}},"r":{}},"nullable":true}})"),
      "items:{nullable:true,properties:{q:{items:{type:~STRING~},type:~ARRAY~},r:{type:~~}},"
      "type:~OBJECT~},type:~ARRAY~");
}

TEST(ToolDeclaration, FunctionCorners) {
  EXPECT_EQ(declare(R"({"name":"f","description":null,"parameters":{}})"),
            "declaration:f{description:~~}");
  EXPECT_EQ(declare(R"({"name":"f","parameters":{"required":["a"]}})"),
            "declaration:f{description:~~,parameters:{required:[~a~],}");
  EXPECT_EQ(declare(R"({"name":"f","response":null})"), "declaration:f{description:~~,response:{}");
  EXPECT_EQ(declare(R"({"name":"f","response":{"type":"object"}})"),
            "declaration:f{description:~~,response:{type:~OBJECT~}}");
  EXPECT_EQ(declare(R"({"name":"f","response":{"type":"string","description":"d"}})"),
            "declaration:f{description:~~,response:{description:~d~,}");
}

TEST(ToolDeclaration, RefusalsNameTheField) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal("1"), HasSubstr("function: found a number, wanted an object"));
  EXPECT_THAT(refusal("{}"), HasSubstr("function.name: found nothing, wanted a string"));
  EXPECT_THAT(refusal(R"({"name":"f","parameters":[1]})"), HasSubstr("function.parameters: found"));
  EXPECT_THAT(refusal(R"({"name":"f","parameters":{"properties":"x"}})"),
              HasSubstr("function.parameters.properties: found a string, wanted an object"));
  EXPECT_THAT(refusal(R"({"name":"f","parameters":{"properties":{"a":{"type":"object",)"
                      R"("properties":{"b":{"type":"object","required":true}}}}}})"),
              HasSubstr("function.parameters.a.b.required: found a boolean"));
  EXPECT_THAT(refusal(R"({"name":"f","parameters":{"properties":{"a":{"type":"array",)"
                      R"("items":{"type":1}}}}})"),
              HasSubstr("function.parameters.a.items.type: found a number"));
}

}  // namespace
}  // namespace facet
