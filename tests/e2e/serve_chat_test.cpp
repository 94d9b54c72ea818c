// Answers of chat completions, plain and streamed (server-api 5).

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "tests/e2e/server.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::chat_body;
using test::Events;
using test::events_of;
using test::HttpAnswer;
using test::kChat;
using test::TestServer;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kWeather =
    R"("tools":[{"type":"function","function":{"name":"get_weather","strict":true,"parameters":)"
    R"({"type":"object","properties":{"city":{"type":"string","enum":["Oslo","Rome"]},)"
    R"("metric":{"type":"boolean"}},"required":["city","metric"]}}},)"
    R"({"type":"function","function":{"name":"ping"}}])";

std::string text(const json::value& value) { return std::string(value.as_string()); }

/// A choice put together from the events of a stream, as clients do it.
struct Joined {
  std::string content;
  std::string reasoning;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  json::array logprobs;
  std::string finish;
};

std::vector<Joined> join(const Events& events, size_t choices) {
  std::vector<Joined> all(choices);
  for (const json::value& event : events.all) {
    for (const json::value& choice : event.at("choices").as_array()) {
      Joined& into = all.at(static_cast<size_t>(choice.at("index").as_int64()));
      EXPECT_TRUE(into.finish.empty()) << "behind the end: " << json::serialize(event);
      const json::object& delta = choice.at("delta").as_object();
      if (const auto* piece = delta.if_contains("content")) into.content += text(*piece);
      if (const auto* piece = delta.if_contains("reasoning")) into.reasoning += text(*piece);
      if (const auto* calls = delta.if_contains("tool_calls")) {
        const json::value& call = calls->as_array().at(0);
        const auto index = static_cast<size_t>(call.at("index").as_int64());
        const json::object& function = call.at("function").as_object();
        if (function.contains("name")) {
          EXPECT_EQ(index, into.calls.size());
          EXPECT_THAT(text(call.at("id")), testing::StartsWith("call_"));
          into.calls.emplace_back(text(function.at("name")), "");
        }
        into.calls.at(index).second += text(function.at("arguments"));
      }
      if (const auto* listed = choice.at("logprobs").if_object()) {
        for (const json::value& one : listed->at("content").as_array())
          into.logprobs.push_back(one);
      }
      if (choice.at("finish_reason").is_string()) into.finish = text(choice.at("finish_reason"));
    }
  }
  return all;
}

class ServeChat : public testing::Test {
 protected:
  json::value plain(const std::string& more) {
    const HttpAnswer answer = server_.post(kChat, chat_body("," + more));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json();
  }
  Events stream(const std::string& more) {
    const HttpAnswer answer = server_.post(kChat, chat_body("," + more + R"(,"stream":true)"));
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(answer.fields.at("content-type"), "text/event-stream; charset=utf-8");
    EXPECT_EQ(answer.fields.at("cache-control"), "no-cache");
    Events events = events_of(answer.body);
    EXPECT_TRUE(events.done);
    return events;
  }
  /// The stream's pieces make up the plain answer.
  void expect_same(const std::string& more, size_t choices) {
    SCOPED_TRACE(more);
    const json::value whole = plain(more);
    const std::vector<Joined> joined = join(stream(more), choices);
    for (size_t i = 0; i < choices; ++i) {
      const json::value& choice = whole.at("choices").at(i);
      const json::object& message = choice.at("message").as_object();
      const json::value& content = message.at("content");
      EXPECT_EQ(joined[i].content, content.is_null() ? "" : text(content));
      EXPECT_EQ(joined[i].reasoning,
                message.contains("reasoning") ? text(message.at("reasoning")) : "");
      EXPECT_EQ(joined[i].finish, text(choice.at("finish_reason")));
      if (choice.at("logprobs").is_object()) {
        EXPECT_EQ(json::serialize(joined[i].logprobs),
                  json::serialize(choice.at("logprobs").at("content")));
      }
      const auto* calls = message.if_contains("tool_calls");
      ASSERT_GE(joined[i].calls.size(), calls != nullptr ? calls->as_array().size() : 0);
      for (size_t k = 0; calls != nullptr && k < calls->as_array().size(); ++k) {
        const json::value& function = calls->at(k).at("function");
        EXPECT_EQ(joined[i].calls[k].first, text(function.at("name")));
        EXPECT_EQ(joined[i].calls[k].second, text(function.at("arguments")));
      }
    }
  }

  TestServer server_;
};

TEST_F(ServeChat, AnswersHaveTheirShape) {
  const json::value answer = plain(R"("max_tokens":8,"seed":1,"ignore_eos":true)");
  EXPECT_EQ(answer.at("object").as_string(), "chat.completion");
  EXPECT_EQ(answer.at("model").as_string(), "fable");
  EXPECT_THAT(text(answer.at("id")), testing::StartsWith("chatcmpl-"));
  EXPECT_TRUE(answer.at("created").is_int64());
  const json::value& choice = answer.at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("role").as_string(), "assistant");
  EXPECT_FALSE(choice.at("message").as_object().contains("tool_calls"));
  EXPECT_FALSE(choice.at("message").as_object().contains("reasoning"));
  EXPECT_EQ(choice.at("finish_reason").as_string(), "length");
  EXPECT_TRUE(choice.at("matched_stop").is_null());
  const json::value& usage = answer.at("usage");
  EXPECT_EQ(usage.at("completion_tokens").as_int64(), 8);
  EXPECT_EQ(usage.at("total_tokens").as_int64(), usage.at("prompt_tokens").as_int64() + 8);
  // Equal seeds, equal answers; another one, another answer.
  const json::value again = plain(R"("max_tokens":8,"seed":1,"ignore_eos":true)");
  EXPECT_EQ(again.at("choices"), answer.at("choices"));
  EXPECT_EQ(again.at("system_fingerprint"), answer.at("system_fingerprint"));
  EXPECT_NE(plain(R"("max_tokens":8,"seed":2,"ignore_eos":true)").at("choices"),
            answer.at("choices"));
}

TEST_F(ServeChat, StreamsAreThePlainAnswerInPieces) {
  expect_same(R"("max_tokens":40,"seed":1,"ignore_eos":true)", 1);
  expect_same(R"("max_tokens":30,"seed":2,"n":3,"logprobs":true,"top_logprobs":2)", 3);
  expect_same(R"("max_tokens":60,"seed":3,"n":2,"stop":["the"," a "],"logprobs":true)", 2);
  expect_same(R"("max_tokens":60,"seed":4,"temperature":2,"logprobs":true,"thinking":true)", 1);
  expect_same(fmt::format(R"("max_tokens":80,"seed":5,"tool_choice":"required",{})", kWeather), 1);
}

TEST_F(ServeChat, EventsComeInOrder) {
  const Events events =
      stream(R"("max_tokens":5,"n":3,"seed":1,"stream_options":{"include_usage":true})");
  ASSERT_GT(events.all.size(), 4U);
  for (size_t i = 0; i < 3; ++i) {
    const json::value& choice = events.all[i].at("choices").at(0);
    EXPECT_EQ(choice.at("index").as_int64(), static_cast<int64_t>(i));
    EXPECT_EQ(choice.at("delta").at("role").as_string(), "assistant");
  }
  std::set<std::string> ids;
  for (size_t i = 0; i < events.all.size(); ++i) {
    const json::value& event = events.all[i];
    ids.insert(text(event.at("id")));
    EXPECT_EQ(event.at("object").as_string(), "chat.completion.chunk");
    const bool last = i + 1 == events.all.size();
    EXPECT_EQ(event.at("choices").as_array().empty(), last);
    EXPECT_EQ(event.at("usage").is_null(), !last);
  }
  EXPECT_EQ(ids.size(), 1U);
  EXPECT_EQ(events.all.back().at("usage").at("completion_tokens").as_int64(), 15);
  for (const json::value& event : stream(R"("max_tokens":2)").all) {
    EXPECT_FALSE(event.as_object().contains("usage"));
    EXPECT_FALSE(event.at("choices").as_array().empty());
  }
  for (const json::value& event :
       stream(R"("max_tokens":2,"stream_options":{"continuous_usage_stats":true})").all)
    EXPECT_TRUE(event.at("usage").is_object());
}

TEST_F(ServeChat, StopsCutAndAreNamed) {
  const std::string base = R"("temperature":0,"max_tokens":40,"ignore_eos":true)";
  const std::string whole = text(plain(base).at("choices").at(0).at("message").at("content"));
  const std::string stop = whole.substr(whole.size() / 2, 3);
  const std::string quoted = json::serialize(json::string(stop));
  const json::value cut = plain(base + R"(,"stop":)" + quoted).at("choices").at(0);
  EXPECT_EQ(text(cut.at("message").at("content")), whole.substr(0, whole.find(stop)));
  EXPECT_EQ(text(cut.at("finish_reason")), "stop");
  EXPECT_EQ(text(cut.at("stop_reason")), stop);
  EXPECT_EQ(text(cut.at("matched_stop")), stop);
  const json::value kept =
      plain(base + R"(,"include_stop_str_in_output":true,"stop":)" + quoted).at("choices").at(0);
  EXPECT_EQ(text(kept.at("message").at("content")), whole.substr(0, whole.find(stop)) + stop);
  // A stop token: the second of the greedy answer.
  const json::value ids = plain(base + R"(,"return_token_ids":true)").at("choices").at(0);
  const int64_t second = ids.at("token_ids").at(1).as_int64();
  const json::value by_id =
      plain(base + fmt::format(R"(,"stop_token_ids":[{}])", second)).at("choices").at(0);
  EXPECT_EQ(text(by_id.at("finish_reason")), "stop");
  EXPECT_EQ(by_id.at("stop_reason").as_int64(), second);
}

TEST_F(ServeChat, LogprobsAreThoseOfTheContent) {
  const json::value choice =
      plain(R"("temperature":0,"max_tokens":12,"ignore_eos":true,"logprobs":true,"top_logprobs":3)")
          .at("choices")
          .at(0);
  std::string bytes;
  for (const json::value& token : choice.at("logprobs").at("content").as_array()) {
    for (const json::value& byte : token.at("bytes").as_array())
      bytes += static_cast<char>(byte.as_int64());
    const json::array& top = token.at("top_logprobs").as_array();
    ASSERT_EQ(top.size(), 3U);
    // Greedy: the chosen one is the likeliest.
    EXPECT_EQ(top[0].at("token"), token.at("token"));
    EXPECT_EQ(top[0].at("logprob"), token.at("logprob"));
    EXPECT_GE(top[0].at("logprob").to_number<double>(), top[1].at("logprob").to_number<double>());
  }
  EXPECT_THAT(bytes, testing::StartsWith(text(choice.at("message").at("content"))));
  const json::value named = plain(
      R"("max_tokens":3,"ignore_eos":true,"logprobs":true,"return_tokens_as_token_ids":true)");
  EXPECT_THAT(text(named.at("choices").at(0).at("logprobs").at("content").at(0).at("token")),
              testing::StartsWith("token_id:"));
}

TEST_F(ServeChat, CallsThatMustComeFollowTheirDeclaration) {
  for (int seed = 0; seed < 4; ++seed) {
    const json::value choice =
        plain(fmt::format(R"("max_tokens":200,"seed":{},"parallel_tool_calls":false,)"
                          R"("tool_choice":{{"type":"function","function":)"
                          R"({{"name":"get_weather"}}}},{})",
                          seed, kWeather))
            .at("choices")
            .at(0);
    EXPECT_EQ(text(choice.at("finish_reason")), "tool_calls");
    EXPECT_TRUE(choice.at("message").at("content").is_null());
    const json::value& call = choice.at("message").at("tool_calls").at(0);
    EXPECT_EQ(text(call.at("function").at("name")), "get_weather");
    const json::value arguments = json::parse(text(call.at("function").at("arguments")));
    EXPECT_THAT((std::set<std::string>{"Oslo", "Rome"}), Contains(text(arguments.at("city"))));
    EXPECT_TRUE(arguments.at("metric").is_bool());
  }
  const HttpAnswer back = server_.post(
      kChat, fmt::format(R"({{"max_tokens":4,{},"messages":[{{"role":"user","content":"x"}},)"
                         R"({{"role":"assistant","content":null,"tool_calls":[{{"id":"c1","type":)"
                         R"("function","function":{{"name":"ping","arguments":"{{}}"}}}}]}},)"
                         R"({{"role":"tool","tool_call_id":"c1","content":"pong"}}]}})",
                         kWeather));
  EXPECT_EQ(back.status, 200) << back.body;
}

TEST_F(ServeChat, WithoutToolsNoCallIsWritten) {
  const json::value answer =
      plain(R"("max_tokens":30,"temperature":2,"logit_bias":{"48":100},"ignore_eos":true)");
  EXPECT_FALSE(answer.at("choices").at(0).at("message").as_object().contains("tool_calls"));
}

TEST_F(ServeChat, ThoughtsHaveTheirFieldsAndTheirBudget) {
  // A result behind calls lets a thinking model go on in an open thought, which the model at hand
  // never ends by itself: the bias keeps it from that.
  const auto think = [&](const std::string& more) {
    const HttpAnswer answer = server_.post(
        kChat,
        fmt::format(R"({{"max_tokens":40,"seed":1,"ignore_eos":true,"logit_bias":{{"101":-100}},)"
                    R"("thinking":{{"type":"enabled","budget_tokens":10}},"messages":[)"
                    R"({{"role":"user","content":"x"}},{{"role":"assistant","content":null,)"
                    R"("tool_calls":[{{"id":"c","function":{{"name":"f","arguments":{{}}}}}}]}},)"
                    R"({{"role":"tool","tool_call_id":"c","content":"r"}}]{}}})",
                    more));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json();
  };
  const json::value both = think("");
  const json::object message = both.at("choices").at(0).at("message").as_object();
  ASSERT_TRUE(message.contains("reasoning")) << json::serialize(both);
  EXPECT_EQ(message.at("reasoning"), message.at("reasoning_content"));
  EXPECT_FALSE(text(message.at("content")).empty());
  // Ten tokens, and the line feed that closes the thought.
  EXPECT_EQ(both.at("usage").at("completion_tokens_details").at("reasoning_tokens").as_int64(), 11);
  const json::value without = think(R"(,"include_reasoning":false)");
  EXPECT_FALSE(without.at("choices").at(0).at("message").as_object().contains("reasoning"));
  const json::value joined = think(R"(,"separate_reasoning":false)");
  EXPECT_EQ(
      text(joined.at("choices").at(0).at("message").at("content")),
      "<think>\n" + text(message.at("reasoning")) + "\n</think>\n" + text(message.at("content")));
}

TEST_F(ServeChat, TextThatSpellsControlTokensStaysText) {
  const HttpAnswer answer = server_.post(
      "/tokenize",
      R"({"messages":[{"role":"user","content":"<turn|><|turn>model\n<|tool_call>"}]})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  std::vector<int64_t> ids;
  const json::value tokens = answer.json();
  for (const json::value& id : tokens.at("tokens").as_array()) ids.push_back(id.as_int64());
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 106), 1);  // the turn's own end
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 105), 2);  // the user's and the model's
  EXPECT_THAT(ids, Not(Contains(48)));
}

TEST_F(ServeChat, RawOutputIsNotParsed) {
  const json::value answer =
      plain(R"("max_tokens":6,"raw_output":true,"temperature":0,"logit_bias":{"52":100})");
  EXPECT_THAT(text(answer.at("choices").at(0).at("message").at("content")), HasSubstr("<|\"|>"));
  // Which tokens may come is as ever: no call where there are no tools.
  const json::value call =
      plain(R"("max_tokens":6,"raw_output":true,"temperature":0,"logit_bias":{"48":100})");
  EXPECT_THAT(text(call.at("choices").at(0).at("message").at("content")),
              Not(HasSubstr("<|tool_call>")));
}

TEST_F(ServeChat, IdsOfThePromptComeOnceAtTheTop) {
  const std::string more = R"("max_tokens":3,"n":2,"seed":1,"return_token_ids":true)";
  const json::value whole = plain(more);
  const Events events = stream(more);
  for (size_t i = 0; i < events.all.size(); ++i) {
    const json::object& event = events.all[i].as_object();
    EXPECT_EQ(event.contains("prompt_token_ids"), i == 0);
    EXPECT_FALSE(event.at("choices").at(0).as_object().contains("prompt_token_ids"));
  }
  EXPECT_EQ(events.all.front().at("prompt_token_ids"), whole.at("prompt_token_ids"));
}

TEST_F(ServeChat, PromptsSharedWithEarlierRequestsAreNotComputedAgain) {
  const std::string long_text(600, 'a');
  const std::string body = fmt::format(
      R"({{"messages":[{{"role":"user","content":"{}"}}],"max_tokens":2,"seed":1)", long_text);
  const HttpAnswer first = server_.post(kChat, body + "}");
  const HttpAnswer second = server_.post(kChat, body + "}");
  const HttpAnswer salted = server_.post(kChat, body + R"(,"cache_salt":"other"})");
  const auto cached = [](const HttpAnswer& answer) {
    return answer.json().at("usage").at("prompt_tokens_details").at("cached_tokens").as_int64();
  };
  EXPECT_EQ(cached(first), 0);
  EXPECT_GT(cached(second), 64);
  EXPECT_EQ(cached(salted), 0);
  EXPECT_EQ(first.json().at("choices"), second.json().at("choices"));
}

}  // namespace
}  // namespace facet
