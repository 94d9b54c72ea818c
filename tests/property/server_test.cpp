// The server over backends that cost next to nothing: what a scripted model writes arrives as it
// should, and what a faulty one does ends as it should (reliability 2.7, C-84).

#include "tests/e2e/server.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <thread>

#include "server/http/listener.h"
#include "server/service.h"
#include "tests/fake/hash_backend.h"
#include "tests/fake/scripted_backend.h"
#include "tests/support.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::Events;
using test::events_of;
using test::http_request;
using test::HttpAnswer;
using test::kChat;
using test::Wire;
using testing::HasSubstr;
using testing::Not;

constexpr int32_t kTurnEnd = 106;

std::string text(const json::value& value) { return std::string(value.as_string()); }

Tokenizer fable_tokenizer() {
  return Tokenizer::load(test::source_dir() + "/models/fable/tokenizer.json");
}

ServerSettings settings() {
  ServerSettings result;
  result.names = {"fake"};
  return result;
}

http::ListenOptions any_port() {
  http::ListenOptions options;
  options.port = 0;
  return options;
}

EngineOptions engine_options() {
  EngineOptions options;
  options.kv_dtype = DType::kF32;
  options.page_size = 16;
  options.pages = {400, 2000};
  options.max_running = 8;
  return options;
}

/// A server in this process, over `backend`.
class LocalServer {
 public:
  explicit LocalServer(Backend& backend,
                       std::chrono::milliseconds pause = std::chrono::milliseconds(1))
      : served_(fable_tokenizer()),
        model_(test::make_fake_model(backend, {.vocab_size = served_.tokenizer.size()})),
        engine_(*model_, backend, engine_options()),
        service_(loop_, settings(), {}),
        listener_(loop_, service_, any_port()) {
    served_.end_ids = {1, kTurnEnd, 50};
    served_.vocab_size = served_.tokenizer.size();
    served_.max_model_len = engine_.limits().max_model_len;
    loop_.set_pause(pause);
    service_.serve(served_, engine_);
    loop_.start();
  }
  ~LocalServer() { loop_.stop(); }
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  Wire connect() const { return Wire(std::stoi(listener_.url().substr(17))); }
  HttpAnswer request(const std::string& bytes) const {
    Wire wire = connect();
    wire.send(bytes);
    return wire.read_answer();
  }
  HttpAnswer chat(const std::string& more) const {
    return request(http_request("POST", kChat, test::chat_body("," + more)));
  }

 private:
  http::Loop loop_{1};
  ServedModel served_;
  std::unique_ptr<gemma4::Gemma4Model> model_;
  Engine engine_;
  Service service_;
  http::Listener listener_;
};

class ScriptedServer : public testing::Test {
 protected:
  /// Whatever is asked, the model writes this; control tokens are spelt.
  void write(const std::string& out) {
    std::vector<int32_t> ids;
    const Tokenizer tokenizer = fable_tokenizer();
    for (const TokenId id : tokenizer.encode(out, ControlTokens::kRecognise))
      ids.push_back(to_index(id));
    backend_.add({{}, ids});
  }

  test::ScriptedBackend backend_{kTurnEnd};
  LocalServer server_{backend_};
};

constexpr const char* kTools =
    R"("tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":)"
    R"("object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}},)"
    R"({"type":"function","function":{"name":"ping"}}])";

TEST_F(ScriptedServer, ThoughtsTextAndCallsArriveInTheirPlaces) {
  write(
      "<|channel>thought\nNeed it.\n<channel|>Let me look.\n"
      "<|tool_call>call:get_weather{city:<|\"|>Oslo \"N\"<|\"|>,days:3}<tool_call|>"
      "<|tool_call>call:ping{}<tool_call|><|tool_response>");
  const std::string more = std::string(kTools) + R"(,"reasoning_effort":"high")";
  const json::value choice = server_.chat(more).json().at("choices").at(0);
  const json::value& message = choice.at("message");
  EXPECT_EQ(text(message.at("reasoning_content")), "Need it.");
  EXPECT_EQ(text(message.at("content")), "Let me look.");
  EXPECT_EQ(text(choice.at("finish_reason")), "tool_calls");
  EXPECT_TRUE(choice.at("stop_reason").is_null());
  EXPECT_EQ(choice.at("matched_stop").as_int64(), 50);
  const json::array& calls = message.at("tool_calls").as_array();
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(text(calls[0].at("function").at("arguments")), R"({"city":"Oslo \"N\"","days":3})");
  EXPECT_EQ(text(calls[1].at("function").at("name")), "ping");
  EXPECT_EQ(text(calls[1].at("function").at("arguments")), "{}");
  EXPECT_NE(calls[0].at("id"), calls[1].at("id"));

  const Events events = events_of(server_.chat(more + R"(,"stream":true)").body);
  EXPECT_TRUE(events.done);
  std::string seen;
  std::vector<std::string> arguments;
  for (const json::value& event : events.all) {
    const json::object& delta = event.at("choices").at(0).at("delta").as_object();
    if (const auto* piece = delta.if_contains("reasoning")) seen += "r:" + text(*piece) + "|";
    if (const auto* piece = delta.if_contains("content")) seen += "c:" + text(*piece) + "|";
    const auto* list = delta.if_contains("tool_calls");
    if (list == nullptr) continue;
    const json::value& call = list->at(0);
    if (call.as_object().contains("id")) {
      EXPECT_EQ(call.at("index").as_int64(), std::ssize(arguments));
      arguments.emplace_back();
    }
    arguments.back() += text(call.at("function").at("arguments"));
  }
  EXPECT_THAT(seen, testing::StartsWith("c:|r:"));
  EXPECT_THAT(arguments, testing::ElementsAre(R"({"city":"Oslo \"N\"","days":3})", "{}"));
}

TEST_F(ScriptedServer, AnswersEndAsTheySay) {
  write("Hello there.<turn|>");
  const json::value ended = server_.chat(R"("max_tokens":20)").json().at("choices").at(0);
  EXPECT_EQ(text(ended.at("message").at("content")), "Hello there.");
  EXPECT_EQ(text(ended.at("finish_reason")), "stop");
  EXPECT_EQ(ended.at("matched_stop").as_int64(), kTurnEnd);
  const json::value stopped = server_.chat(R"("stop":["th"])").json().at("choices").at(0);
  EXPECT_EQ(text(stopped.at("message").at("content")), "Hello ");
  EXPECT_EQ(text(stopped.at("stop_reason")), "th");
  // A turn of its own ends an answer too.
  write("Hi.<|turn>user\nMore");
  const json::value turn = server_.chat(R"("max_tokens":20)").json().at("choices").at(0);
  EXPECT_EQ(text(turn.at("message").at("content")), "Hi.");
  EXPECT_EQ(turn.at("matched_stop").as_int64(), 105);
}

TEST_F(ScriptedServer, OneCallIsEnoughWithoutParallelCalls) {
  write(
      "<|tool_call>call:ping{}<tool_call|><|tool_call>call:ping{}<tool_call|>"
      "<|tool_response>");
  const json::value choice = server_.chat(std::string(kTools) + R"(,"parallel_tool_calls":false)")
                                 .json()
                                 .at("choices")
                                 .at(0);
  EXPECT_EQ(choice.at("message").at("tool_calls").as_array().size(), 1U);
  EXPECT_EQ(text(choice.at("finish_reason")), "tool_calls");
}

TEST_F(ScriptedServer, UnfinishedCharactersAreHeldBack) {
  write("\xF0\x9F\x98\x80\xF0\x9F\x98\x81<turn|>");  // in tokens of one byte each
  const Events events =
      events_of(server_.chat(R"("max_tokens":6,"stream":true,"logprobs":true)").body);
  std::string content;
  size_t listed = 0;
  for (const json::value& event : events.all) {
    const json::value& choice = event.at("choices").at(0);
    const json::object& delta = choice.at("delta").as_object();
    if (const auto* piece = delta.if_contains("content")) content += text(*piece);
    if (choice.at("logprobs").is_object())
      listed += choice.at("logprobs").at("content").as_array().size();
  }
  EXPECT_EQ(content, "\xF0\x9F\x98\x80\xEF\xBF\xBD");
  EXPECT_EQ(listed, 6U);
}

// ---- Pauses

/// Whose streams pause for longer than a test lasts.
class PausingServer : public ScriptedServer {
 protected:
  HttpAnswer generate(const std::string& more) const {
    return pausing_.request(http_request("POST", "/generate", R"({"text":"x",)" + more + "}"));
  }

  LocalServer pausing_{backend_, std::chrono::hours(1)};
};

TEST_F(PausingServer, FirstAndLastTokensWaitForNoPause) {
  const std::string story = "Once upon a time there was a fox who lived at the edge of a wood.";
  write(story);
  const Events chat = events_of(pausing_.chat(R"("stream":true)").body);
  EXPECT_TRUE(chat.done);
  std::string streamed;
  for (const json::value& event : chat.all) {
    const json::object& delta = event.at("choices").at(0).at("delta").as_object();
    if (const json::value* content = delta.if_contains("content")) streamed += text(*content);
  }
  EXPECT_EQ(streamed, story);
  const json::value whole = pausing_.chat(R"("max_tokens":100)").json();
  EXPECT_EQ(text(whole.at("choices").at(0).at("message").at("content")), story);
}

TEST_F(PausingServer, TokensThatTravelTogetherAreOneEventOfGenerate) {
  write("Once upon a time there was a fox who lived at the edge of a wood.");
  const std::string sampling = R"("sampling_params":{"max_new_tokens":12,"n":2},)";
  const Events events = events_of(generate(sampling + R"("stream":true)").body);
  EXPECT_TRUE(events.done);
  // Of each choice at most the first token, the second, and the others with either's end.
  EXPECT_LE(events.all.size(), 8U);
  std::map<int64_t, json::value> last;
  for (const json::value& event : events.all) last[event.at("index").as_int64()] = event;
  const json::value plain = generate(sampling + R"("stream":false)").json();
  for (const int choice : {0, 1}) {
    EXPECT_EQ(last[choice].at("meta_info").at("completion_tokens").as_int64(), 12);
    EXPECT_EQ(last[choice].at("output_ids"), plain.at(choice).at("output_ids"));
    EXPECT_EQ(last[choice].at("text"), plain.at(choice).at("text"));
  }
}

// ---- Faults

TEST(FaultyServer, OneRequestFailsAloneAndTheNextIsWell) {
  test::HashBackend backend;
  backend.faults.nan_id = 77;
  const LocalServer server(backend);
  const std::string bad = R"({"prompt":[2,77,5],"max_tokens":3)";
  const HttpAnswer plain = server.request(http_request("POST", "/v1/completions", bad + "}"));
  EXPECT_EQ(plain.status, 500) << plain.body;
  EXPECT_EQ(plain.code(), "engine_error");
  EXPECT_EQ(plain.fields.at("x-should-retry"), "false");
  EXPECT_EQ(plain.json().at("error").at("type").as_string(), "server_error");
  Wire wire = server.connect();
  wire.send(http_request("POST", "/v1/completions", bad + R"(,"stream":true})"));
  const HttpAnswer streamed = wire.read_answer();
  EXPECT_EQ(streamed.status, 200);
  EXPECT_THAT(streamed.body, HasSubstr("data: {\"error\":{"));
  EXPECT_THAT(streamed.body, Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(wire.closed());
  const HttpAnswer good =
      server.request(http_request("POST", "/v1/completions", R"({"prompt":[2,5],"max_tokens":3})"));
  EXPECT_EQ(good.status, 200) << good.body;
}

TEST(FaultyServer, AStepThatThrowsEndsEverything) {
  test::HashBackend backend;
  backend.faults.throwing_step = 5;
  const LocalServer server(backend);
  const HttpAnswer failed = server.request(http_request(
      "POST", "/v1/completions", R"({"prompt":[2,5],"max_tokens":500,"stream":true})"));
  EXPECT_THAT(failed.body, HasSubstr("\"code\":\"engine_error\""));
  EXPECT_THAT(failed.body, Not(HasSubstr("[DONE]")));
  const HttpAnswer refused =
      server.request(http_request("POST", "/v1/completions", R"({"prompt":[2,5],"max_tokens":5})"));
  EXPECT_EQ(refused.status, 500);
  const HttpAnswer health = server.request(http_request("GET", "/health"));
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.code(), "engine_error");
}

}  // namespace
}  // namespace facet
