// JSON and fields that must be refused, with status, code and the path of the field (reliability
// 2.3, 2.4; server-api 5.1 to 5.4).

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/server.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::chat_body;
using test::HttpAnswer;
using test::kChat;
using test::TestServer;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kText = "/v1/completions";

struct Refused {
  std::string body;
  std::string code;
  std::string param;  // empty: null
};

class ServeFields : public testing::Test {
 protected:
  void refuses(const char* path, const Refused& want) {
    SCOPED_TRACE(want.body.substr(0, 200));
    const HttpAnswer answer = server_.post(path, want.body);
    EXPECT_EQ(answer.status, want.code == "model_not_found" ? 404 : 400) << answer.body;
    EXPECT_EQ(answer.code(), want.code) << answer.body;
    const boost::json::value error = answer.json().at("error");
    EXPECT_EQ(error.at("type").as_string(), "invalid_request_error");
    const boost::json::value& param = error.at("param");
    EXPECT_EQ(param.is_null() ? "" : std::string(param.as_string()), want.param) << answer.body;
  }
  void refuses_all(const char* path, const std::vector<Refused>& all) {
    for (const Refused& one : all) refuses(path, one);
    server_.expect_well();
  }
  /// A chat with these further members.
  static Refused chat(const std::string& more, const std::string& code, const std::string& param) {
    return {chat_body("," + more), code, param};
  }
  /// A chat of these messages.
  static Refused messages(const std::string& list,
                          const std::string& code,
                          const std::string& param) {
    return {fmt::format("{{\"messages\":{}}}", list), code, param};
  }

  TestServer server_;
};

TEST_F(ServeFields, OnlyStrictJson) {
  const auto nested = [](size_t depth) {
    return fmt::format(R"({{"x":{}{}}})", std::string(depth, '['), std::string(depth, ']'));
  };
  std::string keys = "{";
  for (int i = 0; i < 65537; ++i) keys += fmt::format("{}\"k{}\":0", i == 0 ? "" : ",", i);
  std::string elements = R"({"x":[true)";
  for (int i = 0; i < 65536; ++i) elements += ",true";
  refuses_all(kChat, {
                         {"", "invalid_json", ""},
                         {"{", "invalid_json", ""},
                         {"[]", "invalid_type", ""},
                         {"{} {}", "invalid_json", ""},
                         {"\xEF\xBB\xBF{}", "invalid_json", ""},
                         {R"({"x":/* */1})", "invalid_json", ""},
                         {R"({"x":NaN})", "invalid_json", ""},
                         {R"({"x":Infinity})", "invalid_json", ""},
                         {R"({"x":1e999})", "invalid_json", ""},
                         {"{\"x\":\"\xFF\"}", "invalid_json", ""},
                         {"{\"x\":\"\xED\xA0\x80\"}", "invalid_json", ""},
                         {R"({"x":"\ud800"})", "invalid_json", ""},
                         {R"({"x\u0000":1})", "invalid_json", ""},
                         {R"({"model":"a","model":"b"})", "duplicate_key", ""},
                         {R"({"x":{"a":1,"\u0061":2}})", "duplicate_key", ""},
                         {nested(65), "json_too_deep", ""},
                         {keys + "}", "json_too_large", ""},
                         {elements + "]}", "json_too_large", ""},
                     });
  // At the border: refused for what is missing, not for its depth.
  refuses(kChat, {nested(63), "missing_field", "messages"});
}

TEST_F(ServeFields, SamplingFieldsHaveTheirRanges) {
  refuses_all(
      kChat,
      {
          chat(R"("temperature":10.1)", "invalid_value", "temperature"),
          chat(R"("temperature":-0.1)", "invalid_value", "temperature"),
          chat(R"("temperature":"1")", "invalid_type", "temperature"),
          chat(R"("temperature":true)", "invalid_type", "temperature"),
          chat(R"("top_p":0)", "invalid_value", "top_p"),
          chat(R"("top_p":1.01)", "invalid_value", "top_p"),
          chat(R"("top_k":-2)", "invalid_value", "top_k"),
          chat(R"("top_k":1.5)", "invalid_type", "top_k"),
          chat(R"("min_p":1.1)", "invalid_value", "min_p"),
          chat(R"("frequency_penalty":2.1)", "invalid_value", "frequency_penalty"),
          chat(R"("presence_penalty":-2.1)", "invalid_value", "presence_penalty"),
          chat(R"("repetition_penalty":0)", "invalid_value", "repetition_penalty"),
          chat(R"("seed":9223372036854775808)", "invalid_json", "seed"),
          chat(R"("seed":true)", "invalid_type", "seed"),
          chat(R"("n":0)", "invalid_value", "n"),
          chat(R"("n":-0)", "invalid_json", "n"),
          chat(R"("n":129)", "invalid_value", "n"),
          chat(R"("n":2,"best_of":3)", "unsupported_parameter", "best_of"),
          chat(R"("max_tokens":0)", "invalid_value", "max_tokens"),
          chat(R"("max_completion_tokens":-1)", "invalid_value", "max_completion_tokens"),
          chat(R"("max_tokens":[])", "invalid_type", "max_tokens"),
          chat(R"("min_tokens":3,"max_tokens":2)", "invalid_value", "min_tokens"),
          chat(R"("stop":"")", "invalid_value", "stop"),
          chat(R"("stop":["a",1])", "invalid_type", "stop"),
          chat(fmt::format(R"("stop":"{}")", std::string(1025, 'x')), "invalid_value", "stop"),
          chat(R"("stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"])",
               "invalid_value", "stop"),
          chat(R"("stop_token_ids":[4096])", "token_out_of_range", "stop_token_ids[0]"),
          chat(R"("logit_bias":{"4096":1})", "invalid_value", "logit_bias"),
          chat(R"("logit_bias":{"x":1})", "invalid_value", "logit_bias"),
          chat(R"("logit_bias":{"1":101})", "invalid_value", "logit_bias.1"),
          chat(R"("logprobs":3)", "invalid_type", "logprobs"),
          chat(R"("top_logprobs":2)", "invalid_value", "top_logprobs"),
          chat(R"("logprobs":true,"top_logprobs":21)", "invalid_value", "top_logprobs"),
          chat(R"("prompt_logprobs":6)", "invalid_value", "prompt_logprobs"),
          chat(R"("prompt_logprobs":1,"stream":true)", "invalid_value", "prompt_logprobs"),
          chat(R"("stream_options":{"include_usage":true})", "invalid_value", "stream_options"),
          chat(R"("stream":1)", "invalid_type", "stream"),
          chat(R"("cache_salt":"a b")", "invalid_value", "cache_salt"),
          chat(R"("priority":1001)", "invalid_value", "priority"),
          chat(fmt::format(R"("user":"{}")", std::string(513, 'x')), "invalid_value", "user"),
          chat(R"("model":"other")", "model_not_found", "model"),
      });
}

TEST_F(ServeFields, BordersAreInside) {
  for (const char* more :
       {R"("max_tokens":1,"temperature":10,"top_p":1,"top_k":-1,"min_p":1,"n":2,"best_of":2)",
        R"("max_tokens":1,"temperature":0,"top_k":1000000,"frequency_penalty":-2)",
        R"("max_tokens":1,"presence_penalty":2,"repetition_penalty":2,"priority":-1000)",
        R"("max_tokens":1,"top_k":99999999999,"best_of":0)",
        R"("max_tokens":99999999999,"stop_token_ids":[106,1,50,107,5],"logit_bias":{"106":100})",
        R"("max_tokens":1,"seed":-9223372036854775808,"stop":["a"],"user":"me")",
        R"("temperature":null,"top_p":null,"max_tokens":null,"max_completion_tokens":1.0e0)",
        R"("max_tokens":1,"logprobs":true,"top_logprobs":20,"logit_bias":{"1":-100,"5":100})",
        R"("max_tokens":1,"functions":[],"audio":null,"response_format":{"type":"text"})",
        R"("max_tokens":1,"modalities":["text"],"store":true,"unknown_field":{"x":1},"tools":[])",
        R"("max_tokens":1,"stream_options":null,"guided_json":{},"suffix":"","n":1.0)"}) {
    const HttpAnswer answer = server_.post(kChat, chat_body(fmt::format(",{}", more)));
    EXPECT_EQ(answer.status, 200) << more << answer.body;
  }
}

TEST_F(ServeFields, MissingFeaturesAreRefusedNotIgnored) {
  std::vector<Refused> all;
  for (const char* name : {"functions",
                           "function_call",
                           "web_search_options",
                           "lora_path",
                           "adapter",
                           "custom_logit_processor",
                           "use_beam_search",
                           "suffix",
                           "chat_template",
                           "prompt_embeds",
                           "session_params",
                           "documents",
                           "structured_outputs",
                           "guided_json",
                           "guided_regex",
                           "guided_choice",
                           "guided_grammar",
                           "regex",
                           "ebnf",
                           "json_schema",
                           "grammar",
                           "audio"}) {
    all.push_back(chat(fmt::format(R"("{}":"x")", name), "unsupported_parameter", name));
  }
  all.push_back(chat(R"("response_format":{"type":"json_object"})", "unsupported_parameter",
                     "response_format.type"));
  all.push_back(chat(R"("modalities":["audio"])", "unsupported_parameter", "modalities"));
  all.push_back(chat(R"("chat_template_kwargs":{"other":1})", "unsupported_parameter",
                     "chat_template_kwargs.other"));
  refuses_all(kChat, all);
}

TEST_F(ServeFields, MessagesAreChecked) {
  std::string many = "[";
  for (int i = 0; i < 4097; ++i) many += fmt::format(R"({}{{"role":"user"}})", i == 0 ? "" : ",");
  std::string parts;
  for (int i = 0; i < 257; ++i)
    parts += fmt::format(R"({}{{"type":"text","text":"x"}})", i == 0 ? "" : ",");
  const std::string call = R"([{"role":"user","content":"x"},{"role":"assistant","tool_calls":)"
                           R"([{"function":{"name":"f","arguments":)";
  refuses_all(
      kChat,
      {
          {"{}", "missing_field", "messages"},
          messages("{}", "invalid_type", "messages"),
          messages("[]", "invalid_value", "messages"),
          messages(many + "]", "invalid_value", "messages"),
          messages("[1]", "invalid_type", "messages[0]"),
          messages(R"([{"content":"x"}])", "missing_field", "messages[0].role"),
          messages(R"([{"role":"robot"}])", "invalid_value", "messages[0].role"),
          messages(R"([{"role":"user","content":3}])", "invalid_type", "messages[0].content"),
          messages(fmt::format(R"([{{"role":"user","content":[{}]}}])", parts), "invalid_value",
                   "messages[0].content"),
          messages(R"([{"role":"user","content":[{"type":"text"}]}])", "missing_field",
                   "messages[0].content[0].text"),
          messages(R"([{"role":"user","content":[{"type":"image_url","image_url":"u"}]}])",
                   "unsupported_media", "messages[0].content[0]"),
          messages(R"([{"role":"user","content":[{"type":"file"}]}])", "unsupported_media",
                   "messages[0].content[0]"),
          messages(R"([{"role":"tool","content":"x"}])", "invalid_value", "messages[0]"),
          messages(call + R"("[1]"}}]}])", "invalid_tool_arguments",
                   "messages[1].tool_calls[0].function.arguments"),
          messages(call + R"("{"}}]}])", "invalid_tool_arguments",
                   "messages[1].tool_calls[0].function.arguments"),
          messages(R"([{"role":"user","content":"x"}],"continue_final_message":true)",
                   "invalid_value", "continue_final_message"),
          messages(R"([{"role":"assistant","content":"x"}],"continue_final_message":true,)"
                   R"("add_generation_prompt":true)",
                   "invalid_value", "add_generation_prompt"),
      });
}

TEST_F(ServeFields, ToolsAreChecked) {
  const auto tool = [](const std::string& function) {
    return fmt::format(R"("tools":[{{"type":"function","function":{}}}])", function);
  };
  std::string many = R"("tools":[)";
  for (int i = 0; i < 129; ++i) {
    many +=
        fmt::format(R"({}{{"type":"function","function":{{"name":"f{}"}}}})", i == 0 ? "" : ",", i);
  }
  const std::string f = tool(R"({"name":"f"})");
  refuses_all(
      kChat,
      {
          chat(R"("tools":{})", "invalid_type", "tools"),
          chat(many + "]", "invalid_value", "tools"),
          chat(R"("tools":[{"type":"web_search"}])", "invalid_value", "tools[0].type"),
          chat(tool("{}"), "missing_field", "tools[0].function.name"),
          chat(tool(R"({"name":"a b"})"), "invalid_value", "tools[0].function.name"),
          chat(tool(R"({"name":"f","parameters":[]})"), "invalid_type",
               "tools[0].function.parameters"),
          chat(tool(fmt::format(R"({{"name":"f","description":"{}"}})", std::string(300000, 'x'))),
               "invalid_value", "tools"),
          chat(R"("tools":[{"type":"function","function":{"name":"f"}},)"
               R"({"type":"function","function":{"name":"f"}}])",
               "invalid_value", "tools[1].function.name"),
          chat(f + R"(,"tool_choice":"sometimes")", "invalid_value", "tool_choice"),
          chat(f + R"(,"tool_choice":{"type":"function","function":{"name":"g"}})", "invalid_value",
               "tool_choice.function.name"),
          chat(f + R"(,"parallel_tool_calls":1)", "invalid_type", "parallel_tool_calls"),
          chat(R"("reasoning_effort":"hard")", "invalid_value", "reasoning_effort"),
          chat(R"("thinking":{"type":"maybe"})", "invalid_value", "thinking.type"),
      });
}

TEST_F(ServeFields, PromptsAreChecked) {
  std::string many = R"({"prompt":["x")";
  for (int i = 0; i < 64; ++i) many += R"(,"x")";
  refuses_all(kText, {
                         {"{}", "missing_field", "prompt"},
                         {R"({"prompt":3})", "invalid_type", "prompt"},
                         {many + "]}", "invalid_value", "prompt"},
                         {R"({"prompt":[]})", "invalid_value", "prompt"},
                         {R"({"prompt":[1,4096]})", "token_out_of_range", "prompt[1]"},
                         {R"({"prompt":[[1],[-1]]})", "token_out_of_range", "prompt[1][0]"},
                         {R"({"prompt":[1,"x"]})", "invalid_type", "prompt[1]"},
                         {R"({"prompt":"x","logprobs":6})", "invalid_value", "logprobs"},
                         {R"({"prompt":"x","max_tokens":0})", "invalid_value", "max_tokens"},
                     });
}

TEST_F(ServeFields, TokenizeWantsEveryFieldAsDeclaredWhicheverFormItIs) {
  const json::value document = server_.request("GET", "/openapi.json").json();
  const json::value& schemas = document.at("components").at("schemas");
  json::object declared = schemas.at("ChatPrompt").at("properties").as_object();
  for (const auto& [name, schema] : schemas.at("TokenizeRequest").at("properties").as_object())
    declared[name] = schema;
  EXPECT_TRUE(declared.contains("tool_choice") && declared.contains("with_pieces"));
  for (const char* form : {R"({"prompt":"a"})", R"({"content":"a"})",
                           R"({"messages":[{"role":"user","content":"x"}]})"}) {
    for (const auto& [name, schema] : declared) {
      json::object body = json::parse(form).as_object();
      const bool list = name == "messages" || name == "tools";
      body[name] = list ? json::value(3) : json::array{3};
      refuses("/tokenize", {json::serialize(body), "invalid_type", name});
      if (body.size() == 1) continue;  // the form's own field
      body[name] = nullptr;
      EXPECT_EQ(server_.post("/tokenize", json::serialize(body)).status, 200) << name;
    }
  }
  refuses("/tokenize", {R"({"prompt":"a","with_pieces":{}})", "invalid_type", "with_pieces"});
  refuses("/tokenize", {R"({"content":"a","tool_choice":3})", "invalid_type", "tool_choice"});
  // No more than types where there is no chat.
  const HttpAnswer answer = server_.post(
      "/tokenize", R"({"content":"a","messages":[],"tools":[3],"reasoning_effort":"x",)"
                   R"("thinking":true,"thinking_budget":-1.0,"tool_choice":{}})");
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(ServeFields, PromptsThatDoNotFitAreToldHowMuchDoes) {
  std::string ids = R"({"max_tokens":1,"prompt":[5)";
  for (int i = 1; i < 8192; ++i) ids += ",5";
  const HttpAnswer answer = server_.post(kText, ids + "]}");
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.code(), "context_length_exceeded");
  EXPECT_EQ(answer.json().at("error").at("param").as_string(), "prompt");
  EXPECT_THAT(
      std::string(answer.json().at("error").at("message").as_string()),
      testing::StartsWith("This model's maximum context length is 8192 tokens. However, your "
                          "request has 8192 input tokens."));
  server_.expect_well();
}

TEST_F(ServeFields, RefusalsHoldNoTextOfThePrompt) {
  const HttpAnswer answer =
      server_.post(kChat, R"({"messages":[{"role":"user","content":"sesame"}],"temperature":11})");
  EXPECT_THAT(answer.body, Not(HasSubstr("sesame")));
  EXPECT_THAT(server_.log(), Not(HasSubstr("sesame")));
}

TEST(ServeFlags, EffortLevelsHaveBudgets) {
  const TestServer server({"--effort-budget", "low=3,high=0", "--effort-budget", "max=40"});
  const auto thoughts = [&](const std::string& more) {
    const HttpAnswer answer = server.post(
        kChat, chat_body(R"(,"max_tokens":60,"seed":1,"ignore_eos":true,"logit_bias":)"
                         R"({"101":-100},"chat_template_kwargs":{"enable_thinking":true})" +
                         more));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json()
        .at("usage")
        .at("completion_tokens_details")
        .at("reasoning_tokens")
        .as_int64();
  };
  // Fable's thoughts do not end by themselves where their end is never sampled: what ends them is
  // forced.
  const int64_t free = thoughts("");
  const int64_t low = thoughts(R"(,"reasoning_effort":"low")");
  EXPECT_GT(free, 50);
  EXPECT_LE(low, 5);
  EXPECT_GE(low, 3);
  EXPECT_EQ(thoughts(R"(,"reasoning":{"effort":"low"})"), low);
  EXPECT_EQ(thoughts(R"(,"reasoning_effort":"medium")"), free);
  EXPECT_GT(thoughts(R"(,"reasoning_effort":"max")"), low);
  EXPECT_LT(thoughts(R"(,"reasoning_effort":"max")"), free);
  // What the request itself says goes first.
  EXPECT_GT(thoughts(R"(,"reasoning_effort":"low","thinking_token_budget":20)"), low);
  // A level of no tokens is thinking off.
  EXPECT_EQ(thoughts(R"(,"reasoning_effort":"high")"), 0);
}

TEST(ServeFlags, UnknownFieldsAndLargeCapsCanBeRefused) {
  const TestServer server({"--strict-fields", "--strict-max-tokens", "--no-v1-alias"});
  const HttpAnswer field = server.post(kChat, chat_body(R"(,"max_tokens":1,"colour":"red")"));
  EXPECT_EQ(field.status, 400);
  EXPECT_EQ(field.code(), "unknown_parameter");
  EXPECT_EQ(field.json().at("error").at("param").as_string(), "colour");
  const HttpAnswer cap = server.post(kChat, chat_body(R"(,"max_tokens":100000)"));
  EXPECT_EQ(cap.code(), "context_length_exceeded");
  EXPECT_EQ(server.post("/chat/completions", chat_body()).status, 404);
  const HttpAnswer nested =
      server.post("/generate", R"({"text":"x","sampling_params":{"max_new_tokens":1,"hue":3}})");
  EXPECT_EQ(nested.code(), "unknown_parameter");
  EXPECT_EQ(nested.json().at("error").at("param").as_string(), "sampling_params.hue");
  // A field of another form has no effect.
  const HttpAnswer form = server.post("/tokenize", R"({"prompt":"x","with_pieces":true})");
  EXPECT_EQ(form.code(), "unknown_parameter");
  server.expect_well();
}

}  // namespace
}  // namespace facet
