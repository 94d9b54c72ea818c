// Completions, /generate, tokens, models, health (server-api 6, 10.1 to 10.3, 11.1).

#include <boost/json/serialize.hpp>
#include <chrono>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/server.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::Events;
using test::events_of;
using test::HttpAnswer;
using test::TestServer;

std::string text(const json::value& value) { return std::string(value.as_string()); }

class ServeRoutes : public testing::Test {
 protected:
  json::value post(const char* path, const std::string& body) {
    const HttpAnswer answer = server_.post(path, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json();
  }
  json::value complete(const std::string& body) { return post("/v1/completions", body); }

  TestServer server_;
};

TEST_F(ServeRoutes, EchoListsThePromptAndEveryToken) {
  const json::value answer = complete(
      R"({"prompt":"Once upon a time","max_tokens":1,"echo":true,"logprobs":1,"temperature":0})");
  const json::value& choice = answer.at("choices").at(0);
  const json::value& logprobs = choice.at("logprobs");
  const json::array& tokens = logprobs.at("tokens").as_array();
  std::string joined;
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(logprobs.at("text_offset").at(i).as_int64(), std::ssize(joined));
    joined += text(tokens[i]);
    // <bos>, which the server added, is not listed, so that the first token has its value.
    ASSERT_TRUE(logprobs.at("token_logprobs").at(i).is_double()) << i;
    const json::object& top = logprobs.at("top_logprobs").at(i).as_object();
    EXPECT_LE(top.size(), 2U);
    EXPECT_EQ(top.at(text(tokens[i])), logprobs.at("token_logprobs").at(i));
  }
  EXPECT_EQ(joined, text(choice.at("text")));
  EXPECT_EQ(answer.at("object").as_string(), "text_completion");
  EXPECT_EQ(answer.at("usage").at("prompt_tokens").as_int64(), std::ssize(tokens));
  // Without an answer, and of ids as they are: the first has no predecessor.
  const json::value only =
      complete(R"({"prompt":[2,2713,959],"max_tokens":0,"echo":true,"logprobs":0})");
  const json::value& listed = only.at("choices").at(0).at("logprobs");
  EXPECT_EQ(listed.at("tokens").as_array().size(), 3U);
  EXPECT_TRUE(listed.at("token_logprobs").at(0).is_null());
  EXPECT_TRUE(listed.at("top_logprobs").at(0).is_null());
  EXPECT_EQ(listed.at("token_logprobs").at(1), logprobs.at("token_logprobs").at(0));
}

TEST_F(ServeRoutes, PromptsAreNumberedThroughAndAnsweredAlone) {
  const json::value all = complete(
      R"({"prompt":["Once upon","There was"],"max_tokens":6,"n":2,"seed":3,"ignore_eos":true})");
  ASSERT_EQ(all.at("choices").as_array().size(), 4U);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(all.at("choices").at(i).at("index").as_int64(), static_cast<int64_t>(i));
  const json::value second =
      complete(R"({"prompt":"There was","max_tokens":6,"n":2,"seed":3,"ignore_eos":true})");
  EXPECT_EQ(all.at("choices").at(2).at("text"), second.at("choices").at(0).at("text"));
  EXPECT_EQ(all.at("choices").at(3).at("text"), second.at("choices").at(1).at("text"));
  EXPECT_EQ(all.at("usage").at("completion_tokens").as_int64(), 24);
}

TEST_F(ServeRoutes, StreamsOfTextAreThePlainText) {
  const std::string body =
      R"({"prompt":"Once upon","max_tokens":20,"seed":3,"echo":true,"logprobs":1)";
  const json::value whole = complete(body + "}").at("choices").at(0);
  const HttpAnswer answer = server_.post("/v1/completions", body + R"(,"stream":true})");
  const Events events = events_of(answer.body);
  EXPECT_TRUE(events.done);
  std::string joined;
  json::array tokens;
  for (const json::value& event : events.all) {
    const json::value& choice = event.at("choices").at(0);
    joined += text(choice.at("text"));
    if (choice.at("logprobs").is_null()) continue;
    for (const json::value& token : choice.at("logprobs").at("tokens").as_array())
      tokens.push_back(token);
  }
  EXPECT_EQ(joined, text(whole.at("text")));
  EXPECT_EQ(json::serialize(tokens), json::serialize(whole.at("logprobs").at("tokens")));
  EXPECT_EQ(text(events.all.back().at("choices").at(0).at("text")), "");
  EXPECT_EQ(text(events.all.back().at("choices").at(0).at("finish_reason")),
            text(whole.at("finish_reason")));
}

TEST_F(ServeRoutes, IdsOfThePromptComeOnceAtTheTop) {
  const std::string body = R"({"prompt":[[2,5],[2,6]],"max_tokens":2,"return_token_ids":true)";
  const json::value whole = complete(body + "}");
  EXPECT_EQ(json::serialize(whole.at("prompt_token_ids")), "[[2,5],[2,6]]");
  const Events events =
      events_of(server_.post("/v1/completions", body + R"(,"stream":true})").body);
  ASSERT_GT(events.all.size(), 1U);
  EXPECT_EQ(events.all.front().at("prompt_token_ids"), whole.at("prompt_token_ids"));
  for (size_t i = 1; i < events.all.size(); ++i)
    EXPECT_FALSE(events.all[i].as_object().contains("prompt_token_ids"));
}

TEST_F(ServeRoutes, EchoListsAsManyAlternativesAsLogprobsSays) {
  const json::value answer =
      complete(R"({"prompt":[2,5,6],"max_tokens":1,"echo":true,"logprobs":1,"prompt_logprobs":5})");
  for (const json::value& top :
       answer.at("choices").at(0).at("logprobs").at("top_logprobs").as_array())
    if (top.is_object()) EXPECT_LE(top.as_object().size(), 2U);
  EXPECT_GE(answer.at("prompt_logprobs").at(1).as_object().size(), 5U);
}

TEST(ServeRoutesOfAShortModel, PromptsCanBeCutFromTheLeft) {
  TestServer server({"--max-model-len", "300"});
  const auto complete = [&](const std::string& body) {
    const HttpAnswer answer = server.post("/v1/completions", body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json();
  };
  const json::value answer =
      complete(R"({"prompt":[2,5,6,7,8],"max_tokens":1,"truncate_prompt_tokens":2,)"
               R"("return_token_ids":true})");
  EXPECT_EQ(json::serialize(answer.at("prompt_token_ids")), "[7,8]");
  std::string ids = "[5";
  for (int i = 0; i < 9000; ++i) ids += ",5";
  const json::value fit = complete(
      R"({"max_tokens":4,"ignore_eos":true,"truncate_prompt_tokens":-1,"prompt":)" + ids + "]}");
  EXPECT_EQ(fit.at("usage").at("prompt_tokens").as_int64(), 296);
  EXPECT_EQ(fit.at("usage").at("completion_tokens").as_int64(), 4);
}

TEST_F(ServeRoutes, GenerateSpeaksItsOwnShape) {
  const json::value one =
      post("/generate",
           R"({"text":"Once upon a time","sampling_params":{"max_new_tokens":4,"temperature":0},)"
           R"("return_logprob":true,"top_logprobs_num":2,"logprob_start_len":0})");
  EXPECT_EQ(one.at("output_ids").as_array().size(), 4U);
  const json::value& meta = one.at("meta_info");
  EXPECT_EQ(text(meta.at("finish_reason").at("type")), "length");
  EXPECT_EQ(meta.at("finish_reason").at("length").as_int64(), 4);
  EXPECT_EQ(meta.at("prompt_tokens").as_int64(), 5);
  EXPECT_EQ(meta.at("input_token_logprobs").as_array().size(), 5U);
  EXPECT_TRUE(meta.at("input_token_logprobs").at(0).at(0).is_null());
  for (size_t i = 0; i < 4; ++i) {
    const json::value& triple = meta.at("output_token_logprobs").at(i);
    EXPECT_EQ(triple.at(1), one.at("output_ids").at(i));
    EXPECT_EQ(meta.at("output_top_logprobs").at(i).at(0), triple);
  }
  const json::value wide =
      post("/generate", R"({"input_ids":[2,5,6],"return_logprob":true,"top_logprobs_num":12,)"
                        R"("logprob_start_len":0,"sampling_params":{"max_new_tokens":1}})");
  EXPECT_EQ(wide.at("meta_info").at("input_top_logprobs").at(1).as_array().size(), 12U);
  EXPECT_EQ(wide.at("meta_info").at("output_top_logprobs").at(0).as_array().size(), 12U);
  const json::value several =
      post("/generate", R"({"input_ids":[[2,5],[2,6]],"sampling_params":{"max_new_tokens":2}})");
  EXPECT_EQ(several.as_array().size(), 2U);
  const HttpAnswer streamed = server_.post(
      "/generate", R"({"text":"Once","stream":true,"sampling_params":{"max_new_tokens":5,)"
                   R"("temperature":0,"ignore_eos":true}})");
  const Events events = events_of(streamed.body);
  EXPECT_TRUE(events.done);
  std::string before;
  for (const json::value& event : events.all) {
    EXPECT_TRUE(text(event.at("text")).starts_with(before));
    before = text(event.at("text"));
  }
  EXPECT_EQ(events.all.back().at("meta_info").at("completion_tokens").as_int64(), 5);
  EXPECT_EQ(server_.post("/generate", R"({"text":"x","input_ids":[1]})").status, 400);
  for (const char* body : {R"({"input_ids":"x"})", R"({"input_ids":["x"]})",
                           R"({"input_ids":[[2],"x"]})", R"({"text":[2]})", R"({"text":[[2]]})"})
    EXPECT_EQ(server_.post("/generate", body).status, 400) << body;
  EXPECT_EQ(server_.post("/generate", R"({"text":"x","image_data":"u"})").code(),
            "unsupported_parameter");
}

TEST_F(ServeRoutes, TokensGoBothWays) {
  EXPECT_EQ(json::serialize(post("/tokenize", R"({"prompt":"<bos>"})").at("tokens")), "[2]");
  const json::value tokens =
      post("/tokenize", R"({"prompt":"Once upon a time","return_token_strs":true})");
  EXPECT_EQ(tokens.at("count").as_int64(), std::ssize(tokens.at("tokens").as_array()));
  EXPECT_EQ(tokens.at("tokens").at(0).as_int64(), 2);
  EXPECT_EQ(text(tokens.at("token_strs").at(0)), "<bos>");
  EXPECT_EQ(tokens.at("max_model_len").as_int64(), 8192);
  const json::value back =
      post("/detokenize", R"({"tokens":)" + json::serialize(tokens.at("tokens")) + "}");
  EXPECT_EQ(text(back.at("prompt")), "<bos>Once upon a time");
  EXPECT_EQ(back.at("content"), back.at("prompt"));
  const json::value pieces =
      post("/tokenize", R"({"content":" upon","with_pieces":true})").at("tokens");
  EXPECT_EQ(text(pieces.at(0).at("piece")), " upon");
  const json::value prompt =
      post("/apply-template", R"({"messages":[{"role":"user","content":"Hi"}]})");
  EXPECT_EQ(text(prompt.at("prompt")),
            "<bos><|turn>user\nHi<turn|>\n<|turn>model\n<|channel>thought\n<channel|>");
  EXPECT_EQ(server_.post("/detokenize", R"({"tokens":[4096]})").code(), "token_out_of_range");
  const json::value info = server_.request("GET", "/tokenizer_info").json();
  EXPECT_EQ(text(info.at("bos_token")), "<bos>");
}

TEST_F(ServeRoutes, RefusalsHaveTheShapeOfTheirClients) {
  const HttpAnswer ollama = server_.post("/api/chat", "{}");
  EXPECT_EQ(ollama.status, 404);
  EXPECT_TRUE(ollama.json().at("error").is_string());
  const HttpAnswer anthropic =
      server_.request("POST", "/v1/messages", "{}", "X-Request-Id: my-id\r\n");
  EXPECT_EQ(anthropic.status, 404);
  EXPECT_EQ(text(anthropic.json().at("type")), "error");
  EXPECT_EQ(text(anthropic.json().at("error").at("type")), "not_found_error");
  EXPECT_EQ(text(anthropic.json().at("request_id")), "my-id");
}

TEST_F(ServeRoutes, ASeedThatWasDrawnIsLogged) {
  const std::string chat = R"({"prompt":"Once","max_tokens":12,"temperature":1)";
  const json::value drawn = complete(chat + "}");
  ASSERT_TRUE(server_.logs(" seed="));
  const std::string log = server_.log();
  const size_t at = log.rfind(" seed=") + 6;
  const std::string seed = log.substr(at, log.find('\n', at) - at);
  const json::value again = complete(chat + R"(,"seed":)" + seed + "}");
  EXPECT_EQ(again.at("choices"), drawn.at("choices"));
}

TEST_F(ServeRoutes, ABusyEngineIsHealthy) {
  const test::Wire running = server_.occupy();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(server_.request("GET", "/health_generate").status, 200);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

TEST_F(ServeRoutes, ModelsAndHealth) {
  const json::value models = server_.request("GET", "/v1/models").json();
  EXPECT_EQ(text(models.at("data").at(0).at("id")), "fable");
  EXPECT_EQ(server_.request("GET", "/v1/models/fable").status, 200);
  const HttpAnswer other = server_.request("GET", "/v1/models/other");
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(other.code(), "model_not_found");
  for (const char* path : {"/health", "/ping", "/health/live", "/health_generate"})
    EXPECT_EQ(server_.request("GET", path).body, R"({"status":"ok"})") << path;
  EXPECT_EQ(server_.request("GET", "/health/ready").json().at("running").as_int64(), 0);
  // The prefix may be left out.
  EXPECT_EQ(server_.post("/completions", R"({"prompt":"x","max_tokens":1})").status, 200);
}

}  // namespace
}  // namespace facet
