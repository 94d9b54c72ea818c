// An op of the model throws: in a step that reads prompts, in one that only decodes, and in one
// that does both. Every client that waits is told so and gets nothing that looks complete, health
// turns 503 and the process ends with 70 (server-api 11.1, 17; reliability G-18).

#include <chrono>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fault/faulty_server.h"

namespace facet {
namespace {

using test::FaultKind;
using test::Faults;
using test::FaultyServer;
using test::HttpAnswer;
using test::Wire;
using testing::HasSubstr;

constexpr auto kTold = std::chrono::seconds(2);
constexpr double kEnded = 5;  // seconds
constexpr int kEngineFault = 70;

std::string endless_stream() {
  return test::http_request("POST", test::kChat, test::chat_body(test::kLongStream));
}
std::string plain_request() {
  return test::http_request("POST", test::kChat, test::chat_body(R"(,"max_tokens":3)"));
}

void expect_refused(Wire& wire) {
  const HttpAnswer answer = wire.read_answer(kTold);
  EXPECT_EQ(answer.status, 500) << answer.body;
  EXPECT_EQ(answer.code(), "engine_error");
}

void expect_broken_off(Wire& wire) {
  const HttpAnswer answer = wire.read_answer(kTold);
  ASSERT_EQ(answer.status, 200);
  const test::Events events = test::events_of(answer.body);
  EXPECT_FALSE(events.done);
  ASSERT_FALSE(events.all.empty());
  EXPECT_EQ(events.all.back().at("error").at("code").as_string(), "engine_error");
  EXPECT_TRUE(wire.closed());
}

/// What follows, whatever the op was.
void expect_end(FaultyServer& server) {
  const HttpAnswer health = server.request("GET", "/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.code(), "engine_error");
  const HttpAnswer later = server.request("POST", test::kChat, test::chat_body());
  EXPECT_EQ(later.status, 500);
  EXPECT_EQ(later.code(), "engine_error");
  EXPECT_EQ(server.request("GET", "/health/live").status, 200);
  const std::optional<int> code = server.ended(kEnded);
  ASSERT_TRUE(code) << "it goes on: " << server.log();
  EXPECT_EQ(*code, kEngineFault);
  EXPECT_EQ(test::fault_of_exit(*code, server.log()), "");
  EXPECT_THAT(server.log(), HasSubstr("a planted fault"));
}

/// Ops of a step of the fake model, as a request alone brings it.
int64_t ops_of_step(FaultKind phase) {
  Faults faults;
  FaultyServer server(faults);
  faults.count(phase);
  const int tokens = phase == FaultKind::kDecodeOp ? 2 : 1;  // the first comes from the prompt
  const HttpAnswer answer =
      server.request("POST", test::kChat,
                     test::chat_body(fmt::format(R"(,"max_tokens":{},"ignore_eos":true)", tokens)));
  EXPECT_EQ(answer.status, 200) << answer.body;
  return faults.counted();
}

/// Of `ops`, the first, the last, and some between.
std::vector<int64_t> some_of(int64_t ops) { return {1, ops / 3, 2 * ops / 3, ops}; }

class EngineFault : public testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = test::no_faults_reason();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_F(EngineFault, WhileAPromptIsRead) {
  const int64_t ops = ops_of_step(FaultKind::kPrefillOp);
  ASSERT_GT(ops, 10);
  for (const int64_t op : some_of(ops)) {
    SCOPED_TRACE(fmt::format("op {} of {}", op, ops));
    Faults faults;
    FaultyServer server(faults);
    faults.arm(FaultKind::kPrefillOp, op);
    std::optional<Wire> wire = server.connect();
    ASSERT_TRUE(wire);
    wire->send(plain_request());
    expect_refused(*wire);
    EXPECT_EQ(faults.disarm(), 1);
    expect_end(server);
  }
}

TEST_F(EngineFault, WhileAnAnswerIsWritten) {
  const int64_t ops = ops_of_step(FaultKind::kDecodeOp);
  ASSERT_GT(ops, 10);
  for (const int64_t op : some_of(ops)) {
    SCOPED_TRACE(fmt::format("op {} of {}", op, ops));
    Faults faults;
    FaultyServer server(faults);
    std::optional<Wire> wire = server.connect();
    ASSERT_TRUE(wire);
    wire->send(endless_stream());
    ASSERT_TRUE(wire->read_until("data: "));
    faults.arm(FaultKind::kDecodeOp, op);
    expect_broken_off(*wire);
    EXPECT_EQ(faults.disarm(), 1);
    expect_end(server);
  }
}

TEST_F(EngineFault, WhileOneAnswerIsWrittenAndAPromptIsRead) {
  const int64_t ops = ops_of_step(FaultKind::kPrefillOp);
  for (const int64_t op : some_of(ops)) {
    SCOPED_TRACE(fmt::format("op {} of {}", op, ops));
    Faults faults;
    FaultyServer server(faults);
    std::optional<Wire> first = server.connect();
    std::optional<Wire> second = server.connect();
    ASSERT_TRUE(first && second);
    first->send(endless_stream());
    ASSERT_TRUE(first->read_until("data: "));
    faults.arm(FaultKind::kPrefillOp, op);
    second->send(plain_request());
    expect_refused(*second);
    expect_broken_off(*first);
    EXPECT_EQ(faults.disarm(), 1);
    expect_end(server);
  }
}

}  // namespace
}  // namespace facet
