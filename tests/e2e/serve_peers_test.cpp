// Peers that are slow, many, or gone (reliability 2.1; server-api 1.2).

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "tests/e2e/server.h"

namespace facet {
namespace {

using std::chrono::seconds;
using test::chat_body;
using test::http_request;
using test::HttpAnswer;
using test::kChat;
using test::kLong;
using test::kLongStream;
using test::TestServer;
using test::Wire;
using testing::HasSubstr;

TEST(ServePeers, SlowHeadsAndBodiesAreGivenUp) {
  const TestServer server({"--header-timeout", "1", "--body-timeout", "2"});
  Wire head = server.connect();
  head.send("GET /health HTTP/1.1\r\nHost: local");
  Wire silent = server.connect();
  Wire body = server.connect();
  body.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 100\r\n\r\n{");
  const HttpAnswer slow_head = head.read_answer();
  EXPECT_EQ(slow_head.status, 408);
  EXPECT_EQ(slow_head.code(), "request_timeout");
  EXPECT_TRUE(head.closed());
  EXPECT_TRUE(silent.closed(seconds(5)));
  const HttpAnswer slow_body = body.read_answer();
  EXPECT_EQ(slow_body.status, 408);
  EXPECT_TRUE(body.closed());
  server.expect_well();
}

TEST(ServePeers, BodiesBelowAKilobyteASecondAreGivenUp) {
  const TestServer server;
  Wire wire = server.connect();
  wire.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 100000\r\n\r\n{");
  const auto begin = std::chrono::steady_clock::now();
  HttpAnswer answer;
  for (int i = 0; i < 14 && answer.status == 0; ++i) {
    wire.send(std::string(100, ' '));
    answer = wire.read_answer(seconds(1));
  }
  EXPECT_EQ(answer.status, 408);
  EXPECT_GT(std::chrono::steady_clock::now() - begin, seconds(9));
  server.expect_well();
}

TEST(ServePeers, TooManyConnectionsAreToldSoAndHealthIsAnswered) {
  const TestServer server({"--max-connections", "2"});
  Wire one = server.connect();
  Wire two = server.connect();
  for (Wire* wire : {&one, &two}) {
    wire->send(http_request("GET", "/health"));
    EXPECT_EQ(wire->read_answer().status, 200);
  }
  Wire three = server.connect();
  three.send(http_request("POST", kChat, chat_body()));
  const HttpAnswer refused = three.read_answer();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.code(), "server_overloaded");
  EXPECT_TRUE(refused.fields.contains("retry-after"));
  EXPECT_TRUE(three.closed());
  EXPECT_EQ(server.request("GET", "/health").status, 200);
}

TEST(ServePeers, AReaderThatTakesNothingIsGivenUp) {
  const TestServer server({"--write-timeout", "1"});
  Wire wire = server.connect(4096);
  wire.send(http_request(
      "POST", kChat,
      chat_body(R"(,"max_tokens":4000,"ignore_eos":true,"stream":true,"n":4,"logprobs":true,)"
                R"("top_logprobs":20)")));
  ASSERT_TRUE(wire.read_until("data: "));
  EXPECT_TRUE(server.logs("reason=cancelled"));
  EXPECT_TRUE(server.becomes_idle());
  server.expect_well();
}

TEST(ServePeers, WorkEndsWithItsClient) {
  const TestServer server({"--max-running", "8"});
  {
    Wire stream = server.connect();
    stream.send(http_request("POST", kChat, chat_body(kLongStream)));
    ASSERT_TRUE(stream.read_until("\"content\":\""));
    stream.reset();
  }
  EXPECT_TRUE(server.logs("reason=cancelled"));
  EXPECT_TRUE(server.becomes_idle());
  {  // a plain answer whose client has closed for good
    const Wire plain = [&] {
      Wire wire = server.connect();
      wire.send(http_request("POST", kChat, chat_body(kLong), "X-Request-Id: closes\r\n"));
      EXPECT_TRUE(server.becomes_busy());
      return wire;
    }();
  }
  EXPECT_TRUE(server.logs("id=closes status=499 reason=cancelled"));
  EXPECT_TRUE(server.becomes_idle());
  {  // one in the queue
    Wire stream = server.connect();
    stream.send(http_request("POST", kChat,
                             chat_body(R"(,"max_tokens":3000,"n":8,"stream":true,)"
                                       R"("ignore_eos":true)")));
    ASSERT_TRUE(stream.read_until("\"content\":\""));
    Wire queued = server.connect();
    queued.send(http_request("POST", kChat, chat_body(kLongStream), "X-Request-Id: queued\r\n"));
    ASSERT_TRUE(queued.read_until("\r\n\r\n"));
    queued.reset();
    EXPECT_TRUE(server.logs("id=queued status=200 reason=cancelled"));
    stream.reset();
  }
  EXPECT_TRUE(server.becomes_idle());
  server.expect_well();
}

TEST(ServePeers, AHalfClosedConnectionGetsItsPlainAnswerButNoStream) {
  const TestServer server;
  Wire plain = server.connect();
  plain.send(http_request("POST", kChat, chat_body(R"(,"max_tokens":50,"ignore_eos":true)")));
  plain.half_close();
  HttpAnswer answer = plain.read_answer();
  while (answer.status == 100) answer = plain.read_answer();
  EXPECT_EQ(answer.status, 200);
  Wire stream = server.connect();
  stream.send(http_request("POST", kChat, chat_body(kLongStream), "X-Request-Id: halved\r\n"));
  ASSERT_TRUE(stream.read_until("data: "));
  stream.half_close();
  EXPECT_TRUE(stream.closed());
  EXPECT_TRUE(server.logs("id=halved status=200 reason=cancelled"));
  EXPECT_TRUE(server.becomes_idle());
  server.expect_well();
}

TEST(ServePeers, ManyDisconnectsLeaveNothingBehind) {
  const TestServer server;
  const boost::json::value before = server.request("GET", "/health/ready").json();
  for (int i = 0; i < 60; ++i) {
    Wire wire = server.connect();
    wire.send(http_request("POST", kChat, chat_body(i % 2 == 0 ? kLong : kLongStream)));
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 7));
    wire.reset();
  }
  EXPECT_TRUE(server.becomes_idle());
  const boost::json::value after = server.request("GET", "/health/ready").json();
  EXPECT_EQ(before.at("free_pages"), after.at("free_pages"));
  server.expect_well();
}

TEST(ServePeers, SilentStreamsGetComments) {
  const TestServer server({"--sse-ping", "1", "--max-running", "1"});
  const Wire busy = server.occupy();
  Wire waiting = server.connect();
  waiting.send(http_request("POST", kChat, chat_body(kLongStream)));
  EXPECT_TRUE(waiting.read_until(": ping\n\n"));
}

}  // namespace
}  // namespace facet
