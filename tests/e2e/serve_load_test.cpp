// Full queues, time limits, keys, the end (reliability 2.2, 2.7; server-api 3, 17).

#include <algorithm>
#include <csignal>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>

#include "tests/e2e/process.h"
#include "tests/e2e/server.h"

namespace facet {
namespace {

using std::chrono::seconds;
using test::bearer;
using test::chat_body;
using test::http_request;
using test::HttpAnswer;
using test::kChat;
using test::kLongStream;
using test::run_facet;
using test::TempDir;
using test::TestServer;
using test::Wire;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kKey = "0123456789abcdef0123456789abcdef";
constexpr const char* kOther = "fedcba9876543210fedcba9876543210";
constexpr int kUnsafe = 78;

/// A stream that has begun.
Wire begin_stream(const TestServer& server, const char* more = kLongStream) {
  Wire wire = server.connect();
  wire.send(http_request("POST", kChat, chat_body(more)));
  EXPECT_TRUE(wire.read_until("\"content\":\""));
  return wire;
}

TEST(ServeLoad, AFullQueueIsToldAtOnce) {
  const TestServer server({"--max-running", "1", "--max-queue", "1"});
  const Wire running = server.occupy();
  Wire waiting = server.connect();
  waiting.send(http_request("POST", kChat, chat_body(kLongStream)));
  ASSERT_TRUE(waiting.read_until("\r\n\r\n"));
  const auto begin = std::chrono::steady_clock::now();
  const HttpAnswer full = server.post(kChat, chat_body());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(2));
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.code(), "server_overloaded");
  EXPECT_TRUE(full.fields.contains("retry-after"));
  EXPECT_EQ(full.json().at("error").at("type").as_string(), "unavailable_error");
}

TEST(ServeLoad, WhoWaitsTooLongIsToldSo) {
  const TestServer server({"--max-running", "1", "--queue-timeout", "1"});
  const Wire running = server.occupy();
  const HttpAnswer late = server.post(kChat, chat_body());
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(late.code(), "queue_timeout");
  EXPECT_TRUE(late.fields.contains("retry-after"));
  Wire stream = server.connect();
  stream.send(http_request("POST", kChat, chat_body(kLongStream)));
  const HttpAnswer streamed = stream.read_answer();
  EXPECT_EQ(streamed.status, 200);
  EXPECT_THAT(streamed.body, HasSubstr("\"code\":\"queue_timeout\""));
  EXPECT_THAT(streamed.body, Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(stream.closed());
}

TEST(ServeLoad, DrainingLetsStreamsEndAndRefusesOthers) {
  TestServer server({"--drain", std::to_string(test::kPatience.count())});
  Wire stream = server.connect();
  // Long enough for what comes meanwhile.
  const int tokens = test::kSanitized ? 150 : 1500;
  stream.send(http_request(
      "POST", kChat,
      chat_body(fmt::format(R"(,"max_tokens":{},"ignore_eos":true,"stream":true)", tokens))));
  ASSERT_TRUE(stream.read_until("\"content\":\""));
  server.signal(SIGTERM);
  EXPECT_TRUE(server.logs("draining"));
  const HttpAnswer refused = server.post(kChat, chat_body());
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.code(), "shutting_down");
  EXPECT_EQ(refused.fields.at("x-should-retry"), "false");
  EXPECT_EQ(server.request("GET", "/health").code(), "shutting_down");
  EXPECT_EQ(server.request("GET", "/health/live").status, 200);
  EXPECT_TRUE(stream.read_until("data: [DONE]"));
  EXPECT_EQ(server.wait(), 0);
}

TEST(ServeLoad, DrainingEndsAndASecondSignalDoesNotWait) {
  TestServer patient({"--drain", "1"});
  Wire stream = begin_stream(patient);
  patient.signal(SIGINT);
  EXPECT_TRUE(stream.read_until("\"code\":\"shutting_down\""));
  EXPECT_EQ(patient.wait(), 0);
  TestServer hurried;
  const Wire other = begin_stream(hurried);
  hurried.signal(SIGTERM);
  EXPECT_TRUE(hurried.logs("draining"));
  hurried.signal(SIGTERM);
  EXPECT_EQ(hurried.wait(), -SIGTERM);
}

// ---- Keys

class ServeKeys : public testing::Test {
 protected:
  ServeKeys() {
    write_keys(std::string("# one for us, one for them\nus ") + kKey + "\nthem " + kOther +
               " admin\n");
  }
  void write_keys(const std::string& text, mode_t mode = 0600) const {
    dir_.write("keys", text);
    chmod(file().c_str(), mode);
  }
  std::string file() const { return dir_.path("keys"); }
  int refused_start(const std::vector<std::string>& flags) const {
    std::vector<std::string> arguments = {"serve", "fable", "--port", "0"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const test::Finished run = run_facet(arguments);
    EXPECT_THAT(run.err, HasSubstr("facet: ")) << run.err;
    const size_t at = std::min(run.err.find("facet: "), run.err.size());
    EXPECT_EQ(std::count(run.err.begin() + static_cast<std::ptrdiff_t>(at), run.err.end(), '\n'), 1)
        << run.err;
    return run.exit_code;
  }

  TempDir dir_;
};

TEST_F(ServeKeys, OpenTheRoutesThatNeedThem) {
  const TestServer server({"--api-key-file", file()});
  const std::string good = bearer(kKey);
  const std::string plain = std::string("X-Api-Key: ") + kOther + "\r\n";
  std::string text;
  for (const std::string& fields :
       {std::string(), bearer("wrong"), std::string("Authorization: Basic ") + kKey + "\r\n",
        std::string("X-Api-Key: \r\n"), bearer(std::string(600, 'x')), good + plain, good + good,
        bearer(kKey + std::string("x"))}) {
    const HttpAnswer answer = server.request("GET", "/v1/models", "", fields);
    EXPECT_EQ(answer.status, 401) << fields;
    EXPECT_EQ(answer.code(), "invalid_api_key");
    EXPECT_EQ(answer.fields.at("www-authenticate"), "Bearer");
    if (text.empty()) text = answer.body;
    EXPECT_EQ(answer.body, text);
  }
  EXPECT_EQ(server.request("GET", "/v1/models?key=" + std::string(kKey)).status, 401);
  EXPECT_EQ(server.request("GET", "/v1/models", "", good).status, 200);
  EXPECT_EQ(server.request("GET", "/v1/models", "", plain).status, 200);
  const std::string both = good + "X-Api-Key: " + kKey + "\r\n";
  EXPECT_EQ(server.request("GET", "/v1/models", "", both).status, 200);
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/generate", "/tokenize",
                           "/detokenize", "/apply-template", "/chat/completions"})
    EXPECT_EQ(server.post(path, "{}").status, 401) << path;
  for (const char* path : {"/v1/models/fable", "/tokenizer_info", "/health/ready",
                           "/health_generate", "/model_info", "/get_model_info", "/server_info",
                           "/get_server_info", "/props", "/version", "/metrics", "/openapi.json"})
    EXPECT_EQ(server.request("GET", path).status, 401) << path;
  for (const char* path : {"/health", "/ping", "/health/live"})
    EXPECT_EQ(server.request("GET", path).status, 200) << path;
  EXPECT_THAT(server.log(), Not(HasSubstr(kKey)));
}

TEST_F(ServeKeys, AreReadAgainOnHangup) {
  const TestServer server({"--api-key-file", file()});
  write_keys(std::string(32, 'n') + "\n");
  server.signal(SIGHUP);
  EXPECT_TRUE(server.logs("keys reloaded"));
  const std::string old = bearer(kKey);
  const std::string fresh = bearer(std::string(32, 'n'));
  EXPECT_EQ(server.request("GET", "/v1/models", "", old).status, 401);
  EXPECT_EQ(server.request("GET", "/v1/models", "", fresh).status, 200);
}

TEST_F(ServeKeys, MayHaveALimitOfRequestsAMinute) {
  write_keys(std::string("us ") + kKey + " per-minute=2\nthem " + kOther + "\n");
  const TestServer server({"--api-key-file", file(), "--key-per-minute", "3"});
  const auto ask = [&](const char* key, const char* path) {
    return server.request("POST", path, R"({"prompt":"x","max_tokens":1})",
                          std::string("X-Api-Key: ") + key + "\r\n");
  };
  EXPECT_EQ(ask(kKey, "/v1/completions").status, 200);
  EXPECT_EQ(ask(kKey, "/tokenize").status, 200);
  for (const char* path : {"/v1/completions", "/tokenize", "/generate"}) {
    const HttpAnswer limited = ask(kKey, path);
    EXPECT_EQ(limited.status, 429) << path;
    EXPECT_EQ(limited.code(), "rate_limit_exceeded");
    EXPECT_EQ(limited.json().at("error").at("type").as_string(), "rate_limit_error");
    const int seconds = std::stoi(limited.fields.at("retry-after"));
    EXPECT_GE(seconds, 1);
    EXPECT_LE(seconds, 30);
  }
  // Looking at what there is does not count.
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(
        server.request("GET", "/v1/models", "", std::string("X-Api-Key: ") + kKey + "\r\n").status,
        200);
  }
  // Others are not touched; theirs is the limit of the flag.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ask(kOther, "/tokenize").status, 200);
  EXPECT_EQ(ask(kOther, "/tokenize").status, 429);
}

TEST_F(ServeKeys, MayHaveALimitOfRequestsAtOnce) {
  const TestServer server({"--api-key-file", file(), "--key-concurrent", "2"});
  const std::string key = std::string("X-Api-Key: ") + kKey + "\r\n";
  const auto begin = [&] {
    Wire wire = server.connect();
    wire.send(http_request("POST", kChat, chat_body(kLongStream), key));
    EXPECT_TRUE(wire.read_until("\"content\":\""));
    return wire;
  };
  Wire one = begin();
  const Wire two = begin();
  const HttpAnswer third = server.request("POST", kChat, chat_body(), key);
  EXPECT_EQ(third.status, 429);
  EXPECT_EQ(third.code(), "rate_limit_exceeded");
  EXPECT_EQ(third.fields.at("retry-after"), "1");
  const std::string other = std::string("X-Api-Key: ") + kOther + "\r\n";
  EXPECT_EQ(server.request("POST", kChat, chat_body(R"(,"max_tokens":1)"), other).status, 200);
  // One that goes away makes room.
  one.reset();
  EXPECT_TRUE(server.logs("cancelled"));
  EXPECT_EQ(server.request("POST", kChat, chat_body(R"(,"max_tokens":1)"), key).status, 200);
  // One after another, there is always room, whatever the size.
  const std::string large = R"({"prompt":")" + std::string(9000, ' ') + R"(","x":1})";
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(server.request("POST", "/tokenize", large, key).status, 200) << i;
}

TEST(ServeConfig, FlagsComeFromAFileAndTheLevelOfTheLogAgainOnHangup) {
  const TempDir dir;
  dir.write("serve.conf",
            "# ours\nserved-model-name=named\nmax-queue=7\nany-model-name=true\n"
            "effort-budget=low=5,high=6\nlog-level=warning\n");
  const TestServer server({"--config", dir.path("serve.conf"), "--max-queue", "9"});
  EXPECT_TRUE(server.logs("9 requests waiting"));
  EXPECT_EQ(server.request("GET", "/v1/models/named").status, 200);
  EXPECT_EQ(server.post(kChat, chat_body(R"(,"model":"other","max_tokens":1)")).status, 200);
  EXPECT_THAT(server.log(), Not(HasSubstr("info ")));
  dir.write("serve.conf", "log-level=debug\n");
  server.signal(SIGHUP);
  EXPECT_TRUE(server.logs("log level=debug"));
  dir.write("serve.conf", "log-level=loud\n");
  server.signal(SIGHUP);
  EXPECT_TRUE(server.logs("log level kept as it is: --log-level 'loud'"));
}

TEST(ServeConfig, TheCommandLineWins) {
  const TempDir dir;
  dir.write("serve.conf", "log-level=error\nserved-model-name=named\n");
  const TestServer server({"--config", dir.path("serve.conf"), "--log-level", "info"});
  EXPECT_EQ(server.request("GET", "/v1/models/named").status, 200);
  dir.write("serve.conf", "log-level=error\n");
  server.signal(SIGHUP);
  EXPECT_TRUE(server.logs("log level=info"));
  server.expect_well();
  EXPECT_TRUE(server.logs("info request done"));
}

TEST_F(ServeKeys, UnsafeSettingsDoNotStart) {
  EXPECT_EQ(refused_start({"--host", "0.0.0.0"}), kUnsafe);
  EXPECT_EQ(refused_start({"--host", "::"}), kUnsafe);
  write_keys(std::string(kKey) + "\n", 0644);
  EXPECT_EQ(refused_start({"--api-key-file", file()}), kUnsafe);
  write_keys("short\n");
  EXPECT_EQ(refused_start({"--api-key-file", file()}), kUnsafe);
  write_keys("# nothing\n");
  EXPECT_EQ(refused_start({"--api-key-file", file()}), kUnsafe);
  EXPECT_EQ(refused_start({"--api-key-file", dir_.path("none")}), kUnsafe);
  EXPECT_EQ(refused_start({"--tls-cert", file(), "--tls-key", file()}), kUnsafe);
}

TEST_F(ServeKeys, WrongFlagsDoNotStart) {
  EXPECT_EQ(refused_start({"--max-queue", "0"}), test::kUsage);
  EXPECT_EQ(refused_start({"--no-such-flag"}), test::kUsage);
  EXPECT_EQ(refused_start({"--tls-cert", file()}), test::kUsage);
  EXPECT_EQ(refused_start({"--host", "no.such.host.invalid"}), test::kUsage);
  const TestServer server;
  EXPECT_EQ(refused_start({"--port", std::to_string(server.port())}), test::kUsage);
  EXPECT_EQ(refused_start({"--kv-memory", "100"}), 71);
  EXPECT_EQ(refused_start({"--kv-memory", "1KiB"}), 71);
  EXPECT_EQ(refused_start({"--kv-memory", "1 parsec"}), test::kUsage);
  EXPECT_EQ(refused_start({"--kv-memory", "100", "--memory-fraction", "0.5"}), test::kUsage);
  EXPECT_EQ(refused_start({"--key-per-minute", "5"}), test::kUsage);
  EXPECT_EQ(refused_start({"--log-level", "loud"}), test::kUsage);
  for (const char* budget : {"low", "low=", "low=-1", "low=x", "none=5", "hard=5", "low=1,low=2"})
    EXPECT_EQ(refused_start({"--effort-budget", budget}), test::kUsage) << budget;
  EXPECT_EQ(refused_start({"--config", dir_.path("none")}), test::kUsage);
  for (const char* line : {"no-such-flag=1", "max-queue=0", "config=x"}) {
    dir_.write("conf", line);
    EXPECT_EQ(refused_start({"--config", dir_.path("conf")}), test::kUsage) << line;
  }
}

}  // namespace
}  // namespace facet
