// What a server must refuse of HTTP, and survive (reliability 2.1). Each is followed by a good
// request.

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "tests/e2e/server.h"

namespace facet {
namespace {

using test::chat_body;
using test::http_request;
using test::HttpAnswer;
using test::kChat;
using test::TestServer;
using test::Wire;
using testing::HasSubstr;

class ServeHttp : public testing::Test {
 protected:
  /// Sends bytes, wants a refusal of this status and code and the end of the connection.
  void refuses(const std::string& bytes, int status, const std::string& code) {
    SCOPED_TRACE(bytes.substr(0, 60));
    Wire wire = server_.connect();
    wire.send(bytes);
    const HttpAnswer answer = wire.read_answer();
    EXPECT_EQ(answer.status, status) << answer.body;
    if (answer.status == 0) return;
    EXPECT_EQ(answer.code(), code);
    EXPECT_EQ(answer.fields.at("content-type"), "application/json");
    EXPECT_TRUE(answer.fields.contains("x-request-id"));
    EXPECT_TRUE(wire.closed());
    server_.expect_well();
  }

  TestServer server_;
};

TEST_F(ServeHttp, RequestLinesHaveALimit) {
  refuses("GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 414,
          "uri_too_long");
  // Also one whose end never comes.
  refuses("GET /" + std::string(9000, 'x'), 414, "uri_too_long");
}

TEST_F(ServeHttp, HeadersHaveLimits) {
  const std::string begin = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
  std::string many = begin;
  for (int i = 0; i < 64; ++i) many += fmt::format("X-{}: 1\r\n", i);
  refuses(many + "\r\n", 431, "headers_too_large");
  refuses(begin + "X: " + std::string(9000, 'x') + "\r\n\r\n", 431, "headers_too_large");
  std::string much = begin;
  for (int i = 0; i < 20; ++i) much += fmt::format("X-{}: {}\r\n", i, std::string(1000, 'x'));
  refuses(much + "\r\n", 431, "headers_too_large");
}

TEST_F(ServeHttp, WhatReadersOfHttpDisagreeOnIsRefused) {
  const std::string host = "Host: localhost\r\n";
  const std::string post = "POST /tokenize HTTP/1.1\r\n" + host;
  const std::string json = "Content-Type: application/json\r\n";
  const std::vector<std::string> all = {
      post + json + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
      post + json + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
      post + json + "Content-Length: +2\r\n\r\n{}",
      post + json + "Content-Length: 0x2\r\n\r\n{}",
      post + json + "Content-Length: -2\r\n\r\n{}",
      post + json + "Content-Length: 99999999999999999999\r\n\r\n{}",
      post + json + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      post + json + "Transfer-Encoding: identity\r\n\r\n",
      "GET /health HTTP/1.1\n" + host + "\r\n",
      "GET /health HTTP/1.1\r\nHost: localhost\n\r\n",
      "GET /health HTTP/1.1\r\n" + host + "X : 1\r\n\r\n",
      "GET /health HTTP/1.1\r\n" + host + "X: 1\r\n 2\r\n\r\n",
      "GET /health HTTP/1.1\r\n" + host + std::string("X: 1\0\r\n\r\n", 9),
      "GET /health HTTP/1.1\r\n" + host + "X: 1\r2\r\n\r\n",
      "GET /health HTTP/1.1\r\n\r\n",
      "GET /health HTTP/1.1\r\n" + host + host + "\r\n",
      std::string("GET  /health HTTP/1.1\r\n") + host + "\r\n",
      std::string("\x16\x03\x01\x02 no HTTP at all\r\n\r\n"),
  };
  for (const std::string& bytes : all) {
    refuses(bytes, 400, "invalid_value");
  }
}

TEST_F(ServeHttp, ChunkedBodiesAreReadAndHaveLimits) {
  const std::string head =
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  Wire good = server_.connect();
  good.send(head + "8\r\n{\"prompt\r\n7;x=1\r\n\":\"<bos\r\n3\r\n>\"}\r\n0\r\nX: 1\r\n\r\n");
  const HttpAnswer answer = good.read_answer();
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("\"tokens\":[2]"));

  refuses(head + "10000000000000000\r\n", 400, "invalid_value");
  refuses(head + "2;" + std::string(300, 'x') + "\r\n{}\r\n0\r\n\r\n", 400, "invalid_value");
  refuses(head + "2x\r\n{}\r\n0\r\n\r\n", 400, "invalid_value");
  std::string many = head;
  for (int i = 0; i < 16385; ++i) many += "1\r\n \r\n";
  refuses(many, 400, "invalid_value");
  Wire cut = server_.connect();
  cut.send(head + "2\r\n{}\r\n");
  cut.half_close();
  EXPECT_EQ(cut.read_answer().status, 400);
  server_.expect_well();
}

TEST_F(ServeHttp, BodiesHaveALimit) {
  // Refused before it is read.
  refuses(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 8388609\r\n\r\n",
      413, "payload_too_large");
  std::string chunks =
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  const std::string megabyte(1 << 20, ' ');
  for (int i = 0; i < 9; ++i) chunks += "100000\r\n" + megabyte + "\r\n";
  Wire wire = server_.connect();
  wire.send(chunks);  // fails in the middle at best
  const HttpAnswer answer = wire.read_answer();
  if (answer.status != 0) EXPECT_EQ(answer.code(), "payload_too_large");
  server_.expect_well();
}

TEST_F(ServeHttp, EveryOperationDeclaresItsLimitOfBodies) {
  const TestServer server({"--admin-api"});
  const std::string host = "Host: localhost\r\nContent-Type: application/json\r\n";
  const boost::json::value document = server.request("GET", "/openapi.json").json();
  for (const auto& [path, item] : document.at("paths").as_object()) {
    for (const auto& [method, operation] : item.as_object()) {
      SCOPED_TRACE(std::string(method) + " " + std::string(path));
      const bool post = method == "post";
      std::string line = fmt::format("{} {}", post ? "POST" : "GET", std::string_view(path));
      if (const size_t id = line.find("{id}"); id != std::string::npos)
        line.replace(id, 4, "fable");
      const std::string head = line + " HTTP/1.1\r\n" + host;
      Wire wire = server.connect();
      wire.send(head + (post ? "Content-Length: 8388609\r\n\r\n" : "Content-Length: 2\r\n\r\n{}"));
      const HttpAnswer answer = wire.read_answer();
      EXPECT_EQ(answer.status, 413) << answer.body;
      EXPECT_EQ(answer.code(), "payload_too_large");
      EXPECT_THAT(answer.body, HasSubstr(post ? "larger than 8388608 bytes" : "Only a POST"));
      EXPECT_TRUE(operation.at("responses").as_object().contains("413"));
    }
  }
  // Nor in chunks, nor with HEAD; the head of a body without bytes is none.
  const std::string chunked = "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  refuses("GET /health HTTP/1.1\r\n" + chunked + "2\r\n{}\r\n0\r\n\r\n", 413, "payload_too_large");
  Wire wire = server_.connect();
  wire.send("HEAD /health HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}" +
            "GET /health HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n" +
            "GET /health HTTP/1.1\r\n" + chunked + "0\r\n\r\n");
  EXPECT_EQ(wire.read_head().status, 413);
  EXPECT_EQ(wire.read_answer().status, 200);
  EXPECT_EQ(wire.read_answer().status, 200);
}

TEST_F(ServeHttp, BodiesMustBePlainJson) {
  const HttpAnswer packed =
      server_.request("POST", "/tokenize", "{}", "Content-Encoding: gzip\r\n");
  EXPECT_EQ(packed.status, 415);
  EXPECT_EQ(packed.code(), "unsupported_encoding");
  Wire wire = server_.connect();
  wire.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
      "Content-Type: text/plain\r\n\r\n{}");
  const HttpAnswer form = wire.read_answer();
  EXPECT_EQ(form.status, 415);
  EXPECT_EQ(form.code(), "unsupported_media_type");
  server_.expect_well();
}

TEST_F(ServeHttp, PathsAndMethodsAreExact) {
  const HttpAnswer wrong = server_.request("GET", kChat);
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.code(), "method_not_allowed");
  EXPECT_EQ(wrong.fields.at("allow"), "POST");
  for (const char* path : {"/v1/chat/completions/", "/v1/chat%2fcompletions", "/v1/../health",
                           "/health/", "/nothing", "//health", "/v1/models/"}) {
    const HttpAnswer answer = server_.request("GET", path);
    EXPECT_EQ(answer.status, 404) << path;
    EXPECT_EQ(answer.code(), "unknown_url") << path;
  }
  const HttpAnswer missing = server_.request("POST", "/v1/embeddings", "{}");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.code(), "unsupported_endpoint");
  EXPECT_THAT(missing.body, HasSubstr("Embeddings"));
  EXPECT_EQ(server_.request("GET", "/health?beta=true").status, 200);
  // HEAD: as GET, without the body.
  Wire wire = server_.connect();
  wire.send(http_request("HEAD", "/nothing") + http_request("HEAD", "/health") +
            http_request("GET", "/health"));
  EXPECT_EQ(wire.read_head().status, 404);
  EXPECT_EQ(wire.read_head().fields.at("content-length"), "15");
  EXPECT_EQ(wire.read_answer().body, R"({"status":"ok"})");
  server_.expect_well();
}

TEST_F(ServeHttp, OnlyTheNamesOfThisMachineAreServed) {
  for (const char* host : {"evil.example", "127.evil.example", "localhost.evil.example:8000"}) {
    Wire wire = server_.connect();
    wire.send(fmt::format("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", host));
    const HttpAnswer answer = wire.read_answer();
    EXPECT_EQ(answer.status, 421) << host;
    EXPECT_EQ(answer.code(), "host_not_allowed");
  }
  for (const char* host : {"127.0.0.1:8000", "LOCALHOST", "[::1]:8000"}) {
    Wire wire = server_.connect();
    wire.send(fmt::format("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", host));
    EXPECT_EQ(wire.read_answer().status, 200) << host;
  }
  const HttpAnswer page = server_.request("GET", "/health", "", "Origin: https://page.example\r\n");
  EXPECT_EQ(page.status, 403);
  EXPECT_EQ(page.code(), "origin_not_allowed");
  for (const auto& [name, value] : page.fields) EXPECT_FALSE(name.starts_with("access-control-"));
  server_.expect_well();
}

TEST_F(ServeHttp, ThePageIsSentOnceAndMayAsk) {
  const HttpAnswer page = server_.request("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.fields.at("content-type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.body, testing::StartsWith("<!doctype html>"));
  // 304 has no body and names no length; the connection goes on.
  Wire wire = server_.connect();
  wire.send(fmt::format("GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {}\r\n\r\n",
                        page.fields.at("etag")));
  const HttpAnswer known = wire.read_head();
  EXPECT_EQ(known.status, 304);
  EXPECT_EQ(known.fields.count("content-length"), 0U);
  wire.send("GET /v1/models HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://localhost:80\r\n\r\n");
  EXPECT_EQ(wire.read_answer().status, 200);
  EXPECT_EQ(server_.request("POST", "/", "{}").status, 405);
  server_.expect_well();
}

TEST(ServeHttpFlags, ThePageCanBeLeftOut) {
  const TestServer server({"--no-web"});
  EXPECT_EQ(server.request("GET", "/").code(), "unknown_url");
}

TEST(ServeHttpFlags, HostsAndPagesCanBeAllowed) {
  const TestServer server(
      {"--allow-host", "facet.example", "--allow-origin", "https://page.example"});
  Wire wire = server.connect();
  wire.send("GET /health HTTP/1.1\r\nHost: facet.example\r\n\r\n");
  EXPECT_EQ(wire.read_answer().status, 200);
  const std::string origin = "Origin: https://page.example\r\n";
  const HttpAnswer page = server.request("GET", "/health", "", origin);
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.fields.at("access-control-allow-origin"), "https://page.example");
  const HttpAnswer asked = server.request("OPTIONS", kChat, "", origin);
  EXPECT_EQ(asked.status, 204);
  EXPECT_EQ(asked.fields.at("access-control-allow-methods"), "POST");
  EXPECT_EQ(server.request("GET", "/health", "", "Origin: https://other.example\r\n").status, 403);
}

TEST_F(ServeHttp, OtherProtocolsAreRefusedOrIgnored) {
  refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_not_supported");
  const HttpAnswer upgrade = server_.request(
      "GET", "/health", "", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n");
  EXPECT_EQ(upgrade.status, 200);
  Wire old = server_.connect();
  old.send("GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(old.read_answer().status, 200);
  EXPECT_TRUE(old.closed());
  server_.expect_well();
}

TEST_F(ServeHttp, RequestsMayQueueUpButNotForEver) {
  const std::string chat = http_request("POST", kChat, chat_body(R"(,"max_tokens":2)"));
  const std::string get = http_request("GET", "/health");
  Wire wire = server_.connect();
  wire.send(chat + get + get + get + get);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(wire.read_answer().status, 200) << i;
  Wire deep = server_.connect();
  deep.send(http_request("POST", kChat, chat_body(R"(,"max_tokens":500,"ignore_eos":true)")));
  for (int i = 0; i < 5; ++i) deep.send(get);
  EXPECT_TRUE(deep.closed());
  EXPECT_TRUE(server_.becomes_idle());
  server_.expect_well();
}

TEST_F(ServeHttp, ARefusedBodyIsReadIfItIsShort) {
  Wire wire = server_.connect();
  wire.send(http_request("POST", "/nothing", std::string(60000, 'x')));
  EXPECT_EQ(wire.read_answer().status, 404);
  wire.send(http_request("GET", "/health"));
  EXPECT_EQ(wire.read_answer().status, 200);
  Wire large = server_.connect();
  large.send(http_request("POST", "/nothing", std::string(70000, 'x')));
  EXPECT_EQ(large.read_answer().status, 404);
  EXPECT_TRUE(large.closed());
  server_.expect_well();
}

TEST_F(ServeHttp, ABodyMayWaitToBeAskedFor) {
  const std::string body = R"({"prompt":"<bos>"})";
  const std::string fields = fmt::format(
      "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
      "Expect: 100-continue\r\n\r\n",
      body.size());
  Wire wire = server_.connect();
  wire.send("POST /tokenize HTTP/1.1\r\n" + fields);
  EXPECT_EQ(wire.read_answer().status, 100);
  wire.send(body);
  EXPECT_EQ(wire.read_answer().status, 200);
  Wire refused = server_.connect();
  refused.send("POST /nothing HTTP/1.1\r\n" + fields);
  EXPECT_EQ(refused.read_answer().status, 404);
  EXPECT_TRUE(refused.closed());
}

TEST_F(ServeHttp, RequestsKeepTheirIds) {
  EXPECT_EQ(
      server_.request("GET", "/health", "", "X-Request-Id: my-id_7\r\n").fields.at("x-request-id"),
      "my-id_7");
  EXPECT_NE(
      server_.request("GET", "/health", "", "X-Request-Id: a b\r\n").fields.at("x-request-id"),
      "a b");
}

}  // namespace
}  // namespace facet
