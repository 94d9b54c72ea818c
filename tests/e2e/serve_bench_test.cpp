// `facet bench serve` against `facet serve`, and against servers that do not do what they should.

#include <arpa/inet.h>
#include <boost/json/parse.hpp>
#include <csignal>
#include <fmt/core.h>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "tests/e2e/process.h"
#include "tests/e2e/server.h"
#include "tests/e2e/terminal.h"

namespace facet {
namespace {

using test::Finished;
using test::kUsage;
using test::run_facet;
using test::TempDir;
using test::TestServer;
using testing::HasSubstr;

constexpr int kFailed = 65;
constexpr double kRounding = 1e-9;

std::string url_of(int port) { return fmt::format("http://127.0.0.1:{}", port); }

Finished bench(int port, std::vector<std::string> flags) {
  flags.insert(flags.begin(), {"bench", "serve", "--url", url_of(port)});
  return run_facet(flags);
}

boost::json::object json_of(const std::string& path) {
  return boost::json::parse(test::read_text(path)).as_object();
}

/// Answers /v1/models as a server of Fable, and every POST with the pieces given; then it closes.
class FakeServer {
 public:
  explicit FakeServer(std::vector<std::string> pieces)
      : pieces_(std::move(pieces)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 64), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  int port() const { return port_; }

  static std::string plain(int status, std::string_view body) {
    return fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n{}", status, body.size(), body);
  }
  static std::string stream_head() {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
           "chunked\r\n\r\n";
  }
  static std::string chunk(std::string_view data) {
    return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
  }
  static std::string event(int tokens) {
    return chunk(
        fmt::format("data: {{\"meta_info\":{{\"prompt_tokens\":4,\"completion_tokens\":{},"
                    "\"finish_reason\":null}}}}\n\n",
                    tokens));
  }
  static std::string done() { return chunk("data: [DONE]\n\n") + "0\r\n\r\n"; }

 private:
  void serve() {
    for (int peer = 0; (peer = accept(listener_, nullptr, nullptr)) >= 0; close(peer)) {
      const std::string request = read_request(peer);
      if (request.starts_with("GET")) {
        send_all(peer, plain(200, R"({"data":[{"id":"fake","root":"/nowhere"}]})"));
      } else if (request.starts_with("POST /v1/completions")) {
        send_all(peer, plain(404, "{}"));
      } else {
        for (const std::string& piece : pieces_) send_all(peer, piece);
      }
      shutdown(peer, SHUT_WR);
    }
  }

  static std::string read_request(int peer) {
    std::string text;
    char buffer[4096];
    while (true) {
      const size_t head = text.find("\r\n\r\n");
      const size_t length = text.find("Content-Length: ");
      if (head != std::string::npos) {
        const size_t body = length < head ? std::stoul(text.substr(length + 16)) : 0;
        if (text.size() >= head + 4 + body) return text;
      }
      const ssize_t got = recv(peer, buffer, sizeof buffer, 0);
      if (got <= 0) return text;
      text.append(buffer, static_cast<size_t>(got));
    }
  }

  static void send_all(int peer, std::string_view bytes) {
    (void)!send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  const std::vector<std::string> pieces_;
  const int listener_;
  int port_ = 0;
  std::thread thread_;
};

Finished bench_fake(const FakeServer& server, std::vector<std::string> more = {"--warmup", "0"}) {
  more.insert(more.end(), {"--tokenizer", "fable", "--num-prompts", "3", "--input-len", "4",
                           "--output-len", "2"});
  return bench(server.port(), more);
}

TEST(ServeBench, CountsWhatTheServerCounts) {
  const TestServer server;
  const TempDir dir;
  const Finished run =
      bench(server.port(), {"--num-prompts", "6", "--input-len", "20", "--output-len", "8",
                            "--concurrency", "3", "--json", dir.path("out.json")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Total input tokens:                      120\n"));
  EXPECT_THAT(run.out, HasSubstr("Total generated tokens:                  48\n"));
  const boost::json::object out = json_of(dir.path("out.json"));
  EXPECT_EQ(out.at("completed").as_int64(), 6);
  EXPECT_EQ(out.at("failed").as_int64(), 0);
  EXPECT_EQ(out.at("cached_input_tokens").as_int64(), 0);
  EXPECT_EQ(out.at("model").as_string(), "fable");
  EXPECT_THAT(std::string(out.at("fingerprint").as_string()), testing::StartsWith("fp_"));
  EXPECT_EQ(out.at("kernels"), server.request("GET", "/server_info").json().at("kernels"));
  EXPECT_THAT(std::string(out.at("command").as_string()), HasSubstr("bench serve --url"));
  EXPECT_EQ(out.at("peak_concurrency").as_int64(), 3);
  const double seconds = out.at("duration_s").as_double();
  EXPECT_NEAR(out.at("output_tokens_per_second").as_double() * seconds, 48, kRounding);
  EXPECT_GT(out.at("median_ttft_ms").as_double(), 0);
  EXPECT_LE(out.at("median_ttft_ms").as_double(), out.at("median_e2e_ms").as_double());
  EXPECT_LE(out.at("p90_itl_ms").as_double(), out.at("p99_itl_ms").as_double());
}

TEST(ServeBench, ChatsOverAUnixSocketWithKeysAndARate) {
  const TempDir dir;
  dir.write("keys", "0123456789abcdef0123456789abcdef\n");
  ASSERT_EQ(chmod(dir.path("keys").c_str(), 0600), 0);
  const TestServer server({"--uds", dir.path("s"), "--api-key-file", dir.path("keys")});
  const std::vector<std::string> flags = {"bench",
                                          "serve",
                                          "--uds",
                                          dir.path("s"),
                                          "--chat",
                                          "--num-prompts",
                                          "5",
                                          "--json",
                                          dir.path("out.json"),
                                          "--input-len",
                                          "30",
                                          "--output-len",
                                          "7",
                                          "--request-rate",
                                          "50"};
  std::vector<std::string> with_key = flags;
  with_key.insert(with_key.end(), {"--api-key-file", dir.path("keys")});
  const Finished run = run_facet(with_key);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const boost::json::object out = json_of(dir.path("out.json"));
  EXPECT_EQ(out.at("completed").as_int64(), 5);
  EXPECT_EQ(out.at("output_tokens").as_int64(), 35);
  EXPECT_GT(out.at("input_tokens").as_int64(), 150);  // the template's come on top
  EXPECT_EQ(out.at("request_rate").as_double(), 50);
  EXPECT_TRUE(out.at("concurrency").is_null());
  const Finished refused = run_facet(flags);
  EXPECT_EQ(refused.exit_code, kFailed);
  EXPECT_THAT(refused.err, HasSubstr("status 401"));
}

TEST(ServeBench, PromptsComeFromAFile) {
  const TestServer server;
  const TempDir dir;
  dir.write("p.jsonl", "{\"prompt\":\"Once upon\",\"max_tokens\":3}\n{\"prompt\":\"A fox\"}\n");
  const Finished run = bench(server.port(), {"--prompts", dir.path("p.jsonl"), "--output-len", "5",
                                             "--json", dir.path("out.json")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(json_of(dir.path("out.json")).at("output_tokens").as_int64(), 8);
  dir.write("c.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n");
  const Finished refused =
      bench(server.port(), {"--prompts", dir.path("c.jsonl"), "--warmup", "0"});
  EXPECT_EQ(refused.exit_code, kUsage);
  EXPECT_THAT(refused.err, HasSubstr("--chat"));
  dir.write("p.jsonl", "{\"prompt\":\"Once\"}\n{\"prompt\":1}\n");
  const Finished bad = bench(server.port(), {"--prompts", dir.path("p.jsonl")});
  EXPECT_EQ(bad.exit_code, kUsage);
  EXPECT_THAT(bad.err, HasSubstr("p.jsonl: line 2: prompt: wanted a string"));
}

TEST(ServeBench, RefusalsAreCountedByStatus) {
  for (const int status : {429, 503}) {
    const FakeServer server({FakeServer::plain(status, R"({"error":{"message":"too much"}})")});
    const Finished run = bench_fake(server);
    EXPECT_EQ(run.exit_code, kFailed);
    EXPECT_THAT(run.out, HasSubstr("Successful requests:                     0\n"));
    EXPECT_THAT(run.out, HasSubstr(fmt::format(
                             "  status {}:                            3 (too much)\n", status)));
    EXPECT_THAT(run.err, HasSubstr("3 of 3 requests failed"));
    const Finished warm = bench_fake(server, {"--warmup", "1"});
    EXPECT_EQ(warm.exit_code, kFailed);
    EXPECT_EQ(warm.out, "");
    EXPECT_THAT(warm.err,
                HasSubstr(fmt::format("a warm-up request failed: status {}: too much", status)));
  }
}

TEST(ServeBench, AnswersAreReadByteByByte) {
  std::vector<std::string> pieces;
  for (const char c : FakeServer::stream_head() + FakeServer::event(1) + FakeServer::event(2) +
                          FakeServer::done()) {
    pieces.emplace_back(1, c);
  }
  const FakeServer server(pieces);
  const Finished run = bench_fake(server);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Total generated tokens:                  6\n"));
}

TEST(ServeBench, WhatIsNotAWholeAnswerIsAFailure) {
  const std::string begun = FakeServer::stream_head() + FakeServer::event(1);
  const auto fault = [](std::vector<std::string> pieces) {
    const Finished run = bench_fake(FakeServer(std::move(pieces)));
    EXPECT_EQ(run.exit_code, kFailed) << run.out;
    EXPECT_THAT(run.out, HasSubstr("Failed requests:                         3\n"));
    EXPECT_THAT(run.out, HasSubstr("Total generated tokens:                  0\n"));
    return run.out;
  };
  EXPECT_THAT(fault({}), HasSubstr("no answer:"));
  EXPECT_THAT(fault({"nonsense\r\n\r\n"}), HasSubstr("the answer is no HTTP"));
  EXPECT_THAT(fault({begun}), HasSubstr("3 (after 1 tokens: the connection ended"));
  EXPECT_THAT(fault({begun + "0\r\n\r\n"}), HasSubstr("3 (after 1 tokens: [DONE] did not come)"));
  EXPECT_THAT(fault({begun + "zz\r\n"}), HasSubstr("the chunks of the answer are broken"));
  EXPECT_THAT(fault({begun + FakeServer::done()}),
              HasSubstr("wrong number of tokens:                3 (found 1, wanted 2"));
  EXPECT_THAT(fault({begun + FakeServer::chunk("data: {\"error\":{\"message\":\"broken\"}}\n\n") +
                     "0\r\n\r\n"}),
              HasSubstr("error event:                           3 (broken)"));
}

TEST(ServeBench, AnAnswerThatTakesTooLongIsGivenUp) {
  const TestServer server;
  const Finished run = bench(server.port(), {"--num-prompts", "2", "--input-len", "8", "--warmup",
                                             "0", "--output-len", "8000", "--timeout", "0.2"});
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.out, HasSubstr("  took too long:                         2 (over 0.2 s)"));
  EXPECT_TRUE(server.becomes_idle());
}

TEST(ServeBench, AServerThatDiesIsReported) {
  TestServer server;
  auto run = std::async(std::launch::async, [&] {
    return bench(server.port(), {"--num-prompts", "8", "--input-len", "8", "--output-len", "4000",
                                 "--concurrency", "2"});
  });
  ASSERT_TRUE(server.becomes_busy());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  server.signal(SIGKILL);
  const Finished finished = run.get();
  EXPECT_EQ(finished.exit_code, kFailed);
  EXPECT_THAT(finished.out + finished.err, HasSubstr("failed"));
  EXPECT_EQ(server.wait(), -SIGKILL);
}

TEST(ServeBench, CtrlCPrintsWhatIsKnown) {
  const TestServer server;
  test::Terminal terminal({"bench", "serve", "--url", url_of(server.port()), "--num-prompts", "200",
                           "--input-len", "8", "--output-len", "200", "--concurrency", "2"});
  terminal.read_until("/200 requests");
  terminal.type("\x03");
  terminal.read_until("interrupted");
  terminal.read_until("Cut short");
  terminal.read_until("Not begun");
  terminal.read_until("Median ITL");
  EXPECT_EQ(terminal.wait(), -SIGINT);
  EXPECT_TRUE(server.becomes_idle());
}

TEST(ServeBench, WhatCannotBeMeasuredIsRefused) {
  const auto refusal = [](std::vector<std::string> flags, int exit_code = kUsage) {
    flags.insert(flags.begin(), {"bench", "serve"});
    const Finished run = run_facet(flags);
    EXPECT_EQ(run.exit_code, exit_code) << run.err;
    EXPECT_EQ(run.out, "");
    return run.err;
  };
  EXPECT_THAT(refusal({"--preset", "other"}), HasSubstr("sglang-headline"));
  EXPECT_THAT(refusal({"--url", "https://127.0.0.1:1"}), HasSubstr("https"));
  EXPECT_THAT(refusal({"--url", "http://127.0.0.1:1"}, kFailed),
              HasSubstr("127.0.0.1:1: Connection refused"));
  EXPECT_THAT(refusal({"--uds", "/nowhere/s"}, kFailed), HasSubstr("/nowhere/s: No such file"));
  EXPECT_THAT(refusal({"--sweep", "1,2", "--concurrency", "3"}), HasSubstr("--concurrency"));
  EXPECT_THAT(refusal({"--sweep", "1,0"}), HasSubstr("--sweep"));
  EXPECT_THAT(refusal({"--request-rate", "0"}), HasSubstr("--request-rate"));
  EXPECT_THAT(refusal({"--json", "/nowhere/x"}, kFailed), HasSubstr("/nowhere/x"));
  const FakeServer elsewhere({});
  const Finished run = bench(elsewhere.port(), {});
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("--tokenizer"));
}

}  // namespace
}  // namespace facet
