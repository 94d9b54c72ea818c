// Information and admin routes (server-api 10.4, 10.5).

#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <sys/stat.h>
#include <thread>

#include "tests/e2e/server.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::bearer;
using test::chat_body;
using test::HttpAnswer;
using test::kChat;
using test::TempDir;
using test::TestServer;
using test::Wire;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kUserKey = "0123456789012345678901234567890123456789";
constexpr const char* kAdminKey = "abcdefghijabcdefghijabcdefghijabcdefghij";

int64_t cached_tokens(const TestServer& server) {
  const std::string body =
      fmt::format(R"({{"messages":[{{"role":"user","content":"{}"}}],"max_tokens":2}})",
                  std::string(1000, 'a'));
  const json::value answer = server.post(kChat, body).json();
  return answer.at("usage").at("prompt_tokens_details").at("cached_tokens").as_int64();
}

TEST(ServeInformation, TellsOfModelAndServer) {
  const TestServer server({"--max-queue", "77", "--alias", "a", "--alias", "b", "--admin-api"});
  const auto get = [&](const char* path) {
    const HttpAnswer answer = server.request("GET", path);
    EXPECT_EQ(answer.status, 200) << path << answer.body;
    return answer.json();
  };
  const json::value model = get("/model_info");
  EXPECT_EQ(model, get("/get_model_info"));
  EXPECT_TRUE(model.at("is_generation").as_bool());
  EXPECT_FALSE(model.at("has_audio_understanding").as_bool());
  EXPECT_EQ(model.at("model_path"), model.at("tokenizer_path"));
  EXPECT_THAT(std::string(model.at("model_path").as_string()), testing::EndsWith("fable"));
  EXPECT_THAT(std::string(model.at("model_type").as_string()), testing::StartsWith("gemma4"));
  EXPECT_EQ(model.at("architectures").as_array().size(), 1U);

  const json::value info = get("/server_info");
  EXPECT_EQ(info.at("version"), get("/version").at("version"));
  const json::value& settings = info.at("settings");
  EXPECT_EQ(settings.at("max_queue").as_int64(), 77);
  EXPECT_EQ(settings.at("max_running").as_int64(), 64) << "a default";
  EXPECT_EQ(settings.at("alias"), (json::array{"a", "b"}));
  EXPECT_TRUE(settings.at("admin_api").as_bool());
  EXPECT_FALSE(settings.at("metrics_open").as_bool());
  EXPECT_TRUE(settings.at("api_key_file").is_null());
  const json::value& state = info.at("internal_states").at(0);
  EXPECT_TRUE(state.at("avg_spec_accept_length").is_null());
  EXPECT_EQ(state.at("last_gen_throughput").to_number<double>(), 0);
  const json::value& memory = info.at("memory");
  EXPECT_EQ(memory.at("max_queue").as_int64(), 77);
  EXPECT_GT(memory.at("weights_bytes").as_int64(), 1000000);
  for (const json::value& group : memory.at("groups").as_array()) {
    EXPECT_GT(group.at("pages").as_int64(), 0);
    EXPECT_EQ(group.at("window").is_null(), group.at("group") == "full");
  }

  std::set<std::string> kinds;
  for (const json::value& kernel : info.at("kernels").as_array()) {
    kinds.emplace(kernel.at("kind").as_string());
    EXPECT_FALSE(kernel.at("kernel").as_string().empty());
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"attention", "experts", "linears"}));

  const json::value props = get("/props");
  EXPECT_EQ(props.at("default_generation_settings").at("n_ctx"), memory.at("max_model_len"));
  EXPECT_EQ(props.at("total_slots"), memory.at("max_running"));
  EXPECT_FALSE(props.at("modalities").at("vision").as_bool());
  Wire head = server.connect();
  head.send(test::http_request("HEAD", "/version"));
  EXPECT_EQ(head.read_head().status, 200);
  EXPECT_EQ(server.post("/version", "{}").status, 405);
}

TEST(ServeInformation, KeepsSecrets) {
  const TempDir dir;
  dir.write("secret-keys", std::string(kUserKey) + "\nus " + kAdminKey + " admin\n");
  chmod(dir.path("secret-keys").c_str(), 0600);
  const TestServer server({"--api-key-file", dir.path("secret-keys")});
  EXPECT_EQ(server.request("GET", "/server_info").status, 401);
  const HttpAnswer answer = server.request("GET", "/server_info", {}, bearer(kUserKey));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.json().at("settings").at("api_key_file").as_string(), "***");
  for (const char* secret : {"secret-keys", kUserKey, kAdminKey})
    EXPECT_THAT(answer.body, Not(HasSubstr(secret)));
}

TEST(ServeAdmin, OnlyForAdminsAndOnlyWhereItIsAskedFor) {
  const TempDir dir;
  dir.write("keys", fmt::format("them {}\nus {} admin\n", kUserKey, kAdminKey));
  chmod(dir.path("keys").c_str(), 0600);
  const std::vector<std::string> flags = {"--api-key-file", dir.path("keys")};
  const auto post = [](const TestServer& server, const char* path, const char* key) {
    return server.request("POST", path, R"({"abort_all":true})", bearer(key));
  };
  {
    const TestServer off(flags);
    for (const char* path : {"/abort_request", "/flush_cache", "/reset_prefix_cache"})
      EXPECT_EQ(post(off, path, kAdminKey).code(), "unknown_url") << path;
  }
  std::vector<std::string> more = flags;
  more.push_back("--admin-api");
  const TestServer on(more);
  for (const char* path : {"/abort_request", "/flush_cache", "/reset_prefix_cache"}) {
    EXPECT_EQ(on.post(path, "{}").status, 401) << path;
    EXPECT_EQ(post(on, path, kUserKey).status, 403) << path;
    EXPECT_EQ(post(on, path, kUserKey).code(), "admin_required") << path;
    EXPECT_EQ(post(on, path, kAdminKey).status, 200) << path;
  }
}

TEST(ServeAdmin, RequestsAreAbortedByTheirIds) {
  const TestServer server({"--admin-api"});
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"nobody"})").body, R"({"aborted":0})");
  EXPECT_EQ(server.post("/abort_request", R"({})").code(), "missing_field");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"","abort_all":false})").code(),
            "missing_field");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":7})").code(), "invalid_type");
  const auto start = [&](const std::string& more) {
    Wire wire = server.connect();
    wire.send(test::http_request("POST", kChat, chat_body(test::kLongStream + more)));
    EXPECT_TRUE(wire.read_until("content"));
    return wire;
  };
  Wire first = start(R"(,"rid":"one")");
  Wire second = start(R"(,"request_id":"two")");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"one"})").body, R"({"aborted":1})");
  EXPECT_TRUE(first.read_until(R"("finish_reason":"abort")"));
  EXPECT_TRUE(first.read_until("[DONE]"));
  Wire third = start("");
  EXPECT_EQ(server.post("/abort_request", R"({"rid":"","abort_all":true})").body,
            R"({"aborted":2})");
  EXPECT_TRUE(second.read_until("[DONE]"));
  EXPECT_TRUE(third.read_until("[DONE]"));
  EXPECT_TRUE(server.logs("done id=two status=200 reason=abort"));
  EXPECT_TRUE(server.becomes_idle());
  server.expect_well();
}

TEST(ServeAdmin, ThePrefixCacheIsDroppedBetweenRequests) {
  const TestServer server({"--admin-api"});
  EXPECT_EQ(cached_tokens(server), 0);
  EXPECT_GT(cached_tokens(server), 0);
  ASSERT_TRUE(server.becomes_idle());
  EXPECT_EQ(server.post("/flush_cache", "{}").status, 200);
  EXPECT_EQ(cached_tokens(server), 0);
  // Without a body, as curl -X POST sends it.
  Wire bare = server.connect();
  ASSERT_TRUE(server.becomes_idle());
  bare.send("POST /reset_prefix_cache HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(bare.read_answer().body, R"({"status":"ok"})");
  EXPECT_EQ(cached_tokens(server), 0);

  Wire busy = server.occupy();
  EXPECT_EQ(server.post("/flush_cache", "{}").status, 409);
  EXPECT_EQ(server.post("/flush_cache", "{}").code(), "requests_running");
  EXPECT_EQ(server.post("/flush_cache?x=1&timeout=1.5", "{}").status, 409);
  for (const char* timeout : {"-1", "nan", "1e9", "x", "", "1x"}) {
    const HttpAnswer answer = server.post(fmt::format("/flush_cache?timeout={}", timeout), "{}");
    EXPECT_EQ(answer.code(), "invalid_value") << timeout;
  }
  Wire patient = server.connect();
  patient.send(test::http_request("POST", "/flush_cache?timeout=30", "{}"));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  busy.reset();
  EXPECT_EQ(patient.read_answer().status, 200);
  EXPECT_EQ(cached_tokens(server), 0);
}

}  // namespace
}  // namespace facet
