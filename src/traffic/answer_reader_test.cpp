#include "traffic/answer_reader.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(AnswerReader, CountsTokensOfGenerate) {
  RequestRecord record;
  AnswerReader reader(record);
  reader.take(R"({"text":"a","meta_info":{"finish_reason":null,"prompt_tokens":5,)"
              R"("completion_tokens":1,"cached_tokens":2}})",
              1.0);
  // A text that spells what the reader looks for.
  reader.take(R"({"meta_info":{"finish_reason":{"type":"length","length":4},"prompt_tokens":5,)"
              R"("completion_tokens":4,"cached_tokens":2},"text":"\"completion_tokens\":99"})",
              2.0);
  // Another event of the same read.
  reader.take(R"({"meta_info":{"finish_reason":{"type":"length","length":5},"prompt_tokens":5,)"
              R"("completion_tokens":5,"cached_tokens":2}})",
              2.0);
  reader.take("[DONE]", 2.5);
  reader.finish();
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(reader.finish_reason(), "length");
  ASSERT_EQ(record.arrivals.size(), 2u);
  EXPECT_EQ(record.arrivals[0].tokens, 1);
  EXPECT_EQ(record.arrivals[1].tokens, 4);
  EXPECT_EQ(record.arrivals[1].at_s, 2.0);
  EXPECT_EQ(record.output_tokens, 5);
  EXPECT_EQ(record.input_tokens, 5);
  EXPECT_EQ(record.cached_tokens, 2);
}

TEST(AnswerReader, CountsTokensOfChatsByUsageOrByEvents) {
  const std::string sums = R"({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,)"
                           R"("prompt_tokens_details":{"cached_tokens":8}}})";
  for (const bool continuous : {true, false}) {
    RequestRecord record;
    AnswerReader reader(record);
    const auto event = [&](const char* delta, int count) {
      return std::string(R"({"choices":[{"delta":)") + delta +
             R"(,"finish_reason":null}],"usage":)" +
             (continuous ? "{\"completion_tokens\":" + std::to_string(count) + "}" : "null") + "}";
    };
    reader.take(event(R"({"role":"assistant","content":""})", 0), 0.5);
    reader.take(event(R"({"content":"x"})", 1), 1.0);
    reader.take(event(R"({"reasoning":"y"})", 2), 2.0);
    reader.take(event(R"({"content":"z"})", 3), 3.0);
    reader.take(R"({"choices":[{"delta":{},"finish_reason":"length"}]})", 3.0);
    reader.take(sums, 3.5);
    reader.finish();
    ASSERT_EQ(record.arrivals.size(), 3u) << continuous;
    EXPECT_EQ(record.arrivals[0].at_s, 1.0);
    EXPECT_EQ(record.output_tokens, 3);
    EXPECT_EQ(record.input_tokens, 9);
    EXPECT_EQ(record.cached_tokens, 8);
    EXPECT_EQ(reader.finish_reason(), "length");
    EXPECT_FALSE(reader.done());
  }
}

TEST(AnswerReader, KeepsWhatAnErrorSays) {
  RequestRecord record;
  AnswerReader reader(record);
  reader.take(R"({"error":{"message":"The engine has failed.","code":"engine_error"}})", 1);
  reader.finish();
  EXPECT_EQ(reader.error(), "The engine has failed.");
  EXPECT_EQ(record.output_tokens, 0);
  EXPECT_EQ(error_message("gone away"), "gone away");
  EXPECT_EQ(error_message(R"({"error":"no"})"), "no");
  EXPECT_EQ(error_message(R"({"message":"m"})"), "m");
}

}  // namespace
}  // namespace facet
