#include "chat/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>

#include "base/error.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& json) {
  try {
    read_messages(parse_value(json));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    return error.what();
  }
  return "accepted";
}

/// The refusal of an assistant message with that one call.
std::string call_refusal(const std::string& call) {
  return refusal(R"([{"role":"user","content":""},{"role":"assistant","tool_calls":[)" + call +
                 "]}]");
}

TEST(Messages, RefusalsNameMessageAndField) {
  EXPECT_THAT(refusal("{}"), HasSubstr("messages: found an object, wanted an array"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("messages[0]: found a number, wanted an object"));
  EXPECT_THAT(refusal(R"([{"content":"x"}])"), HasSubstr("messages[0].role: found nothing"));
  EXPECT_THAT(refusal(R"([{"role":"user"},{"role":"ro\u001bbot"}])"),
              HasSubstr("messages[1].role: found \"ro\\x1bbot\""));
  EXPECT_THAT(refusal(R"([{"role":"user","content":7}])"),
              HasSubstr("messages[0].content: found a number"));
  EXPECT_THAT(refusal(R"([{"role":"user","content":["x"]}])"),
              HasSubstr("messages[0].content[0]: found a string, wanted an object"));
  EXPECT_THAT(refusal(R"([{"role":"user","content":[{"type":"text","text":""},{"type":"text"}]}])"),
              HasSubstr("messages[0].content[1].text: found nothing"));
  EXPECT_THAT(refusal(R"([{"role":"user","content":[{"type":"file"}]}])"),
              HasSubstr("messages[0].content[0].type: found \"file\""));
  EXPECT_THAT(refusal(R"([{"role":"assistant","reasoning":["x"]}])"),
              HasSubstr("messages[0].reasoning: found an array"));
  EXPECT_THAT(refusal(R"([{"role":"system","reasoning":"","reasoning_content":{}}])"),
              HasSubstr("messages[0].reasoning_content: found an object"));
  EXPECT_THAT(refusal(R"([{"role":"user","content":"x","tool_call_id":7}])"),
              HasSubstr("messages[0].tool_call_id: found a number"));
  EXPECT_THAT(refusal(R"([{"role":"user","content":"x","tool_calls":["f"]}])"),
              HasSubstr("messages[0].tool_calls[0]: found a string"));
}

TEST(Messages, CallsAreChecked) {
  EXPECT_THAT(call_refusal("null"), HasSubstr("messages[1].tool_calls[0]: found null"));
  EXPECT_THAT(call_refusal("{}"), HasSubstr("messages[1].tool_calls[0].function: found nothing"));
  EXPECT_THAT(call_refusal(R"({"function":{"name":3}})"),
              HasSubstr("messages[1].tool_calls[0].function.name: found a number"));
  EXPECT_THAT(call_refusal(R"({"id":1,"function":{"name":"f"}})"), HasSubstr("[0].id: found"));
  EXPECT_THAT(call_refusal(R"({"function":{"name":"f","arguments":[]}})"),
              HasSubstr("function.arguments: found an array"));
  EXPECT_THAT(call_refusal(R"({"function":{"name":"f","arguments":"[1]"}})"),
              HasSubstr("function.arguments: found an array"));
  EXPECT_THAT(call_refusal(R"({"function":{"name":"f","arguments":"{\"a\""}})"),
              HasSubstr("messages[1].tool_calls[0].function.arguments: the JSON text is cut off"));
  for (const char* arguments : {"null", R"("")", R"("{}")", R"("null")", "{}"}) {
    const Value json =
        parse_value(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":)" +
                    std::string(arguments) + "}}]}]");
    EXPECT_TRUE(read_messages(json)[0].calls[0].arguments.object().empty()) << arguments;
  }
}

TEST(Messages, ResultsMustFollowCalls) {
  const std::string call = R"({"role":"assistant","tool_calls":[{"function":{"name":"f"}}]})";
  const std::string result = R"({"role":"tool","content":"r"})";
  EXPECT_THAT(refusal("[" + result + "]"), HasSubstr("messages[0]: a tool message must follow"));
  EXPECT_THAT(refusal(R"([{"role":"assistant","tool_calls":[]},)" + result + "]"),
              HasSubstr("messages[1]: a tool message must follow"));
  EXPECT_THAT(refusal("[" + call + R"(,{"role":"user"},)" + result + "]"),
              HasSubstr("messages[2]: a tool message must follow"));
  EXPECT_EQ(refusal("[" + call + "," + result + "," + result + "]"), "accepted");
  EXPECT_EQ(refusal("[" + call + R"(,{"role":"function","name":"f","content":"r"}])"), "accepted");
  // Only an assistant's calls count.
  EXPECT_THAT(
      refusal(R"([{"role":"user","tool_calls":[{"function":{"name":"f"}}]},)" + result + "]"),
      HasSubstr("messages[1]: a tool message must follow"));
}

TEST(Messages, PartsAndThoughts) {
  const Value json = parse_value(
      R"([{"role":"assistant","reasoning":"","reasoning_content":"t","content":[)"
      R"({"type":"refusal","refusal":"no"},{"type":"input_image"},{"type":"output_text","text":"x"},)"
      R"({"type":"audio_url"},{"type":"video_url"}]}])");
  const std::vector<ChatMessage> messages = read_messages(json);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].thought, "t");
  ASSERT_EQ(messages[0].parts.size(), 4U);
  EXPECT_EQ(messages[0].parts[0].media, control::kImage);
  EXPECT_EQ(messages[0].parts[1].text, "x");
  EXPECT_EQ(messages[0].parts[2].media, control::kAudio);
  EXPECT_EQ(messages[0].parts[3].media, control::kVideo);
}

}  // namespace
}  // namespace facet
