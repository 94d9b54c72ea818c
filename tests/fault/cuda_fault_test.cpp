// A GPU that fails or has no room: one line, a documented exit code, and clients that are told.

#include <chrono>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.h"
#include "tests/e2e/process.h"
#include "tests/e2e/server.h"
#include "tests/fault/faulty_server.h"

namespace facet {
namespace {

using test::FaultyServer;
using test::Finished;
using test::HttpAnswer;
using test::run_facet;
using test::Wire;
using testing::AllOf;
using testing::HasSubstr;

constexpr auto kTold = std::chrono::seconds(2);
constexpr double kEnded = 5;  // seconds
constexpr int kEngineFault = 70;
constexpr int kOutOfMemory = 71;

class CudaFault : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = cuda::unavailable()) GTEST_SKIP() << *reason;
  }
};

/// `facet serve fable` on the GPU, whose step number `step` writes out of range.
FaultyServer failing_in(int step) {
  return FaultyServer(test::facet_program(),
                      {"serve", "fable", "--backend", "cuda", "--port", "0", "--kv-memory", "1GB"},
                      {"FACET_PLANT_ILLEGAL_ACCESS=" + std::to_string(step)});
}

std::string body(const char* more) {
  return std::string(R"({"messages":[{"role":"user","content":"Tell me a story."}])") + more + "}";
}

void expect_end(FaultyServer& server) {
  const std::optional<int> code = server.ended(kEnded);
  ASSERT_TRUE(code) << "it goes on: " << server.log();
  EXPECT_EQ(*code, kEngineFault) << server.log();
  EXPECT_EQ(test::fault_of_exit(*code, server.log()), "");
  EXPECT_THAT(server.log(), AllOf(HasSubstr("a step failed"), HasSubstr("illegal memory access")));
}

TEST_F(CudaFault, AnIllegalAccessWhileAPromptIsRead) {
  FaultyServer server = failing_in(1);
  std::optional<Wire> wire = server.connect();
  ASSERT_TRUE(wire) << server.log();
  wire->send(test::http_request("POST", test::kChat, body("")));
  const HttpAnswer answer = wire->read_answer(kTold);
  EXPECT_EQ(answer.status, 500) << answer.body;
  EXPECT_EQ(answer.code(), "engine_error");
  expect_end(server);
}

TEST_F(CudaFault, AnIllegalAccessWhileAnAnswerIsWritten) {
  FaultyServer server = failing_in(20);
  std::optional<Wire> wire = server.connect();
  ASSERT_TRUE(wire) << server.log();
  wire->send(test::http_request("POST", test::kChat,
                                body(R"(,"stream":true,"max_tokens":500,"ignore_eos":true)")));
  const HttpAnswer answer = wire->read_answer(kTold);
  ASSERT_EQ(answer.status, 200) << answer.body;
  const test::Events events = test::events_of(answer.body);
  EXPECT_FALSE(events.done);
  ASSERT_FALSE(events.all.empty());
  EXPECT_EQ(events.all.back().at("error").at("code").as_string(), "engine_error");
  expect_end(server);
}

TEST_F(CudaFault, KeysAndValuesThatDoNotFitAreRefusedBeforeTheLoad) {
  const Finished done =
      run_facet({"serve", "fable", "--backend", "cuda", "--port", "0", "--kv-memory", "900GB"});
  EXPECT_EQ(done.exit_code, kOutOfMemory) << done.err;
  EXPECT_THAT(done.err, AllOf(HasSubstr("900.0 GB keys and values"), HasSubstr("the GPU has"),
                              HasSubstr("less with --kv-memory")));
}

TEST_F(CudaFault, AGpuThatIsFullIsRefusedBeforeTheLoad) {
  // Another process holds nearly all of it: this one. What is left takes a context such as its own,
  // and no activations of 65,536 rows.
  const auto backend = cuda::make_cuda_backend();
  const DeviceMemory memory = cuda::device_memory();
  const int64_t spared = memory.total - memory.free + (int64_t{256} << 20);
  const Buffer most(memory.free - spared, backend->allocator());
  const Finished done = run_facet(
      {"generate", "fable", "--backend", "cuda", "--ids", "2,3,4", "--prefill-chunk", "65536"});
  EXPECT_EQ(done.exit_code, kOutOfMemory) << done.err;
  EXPECT_THAT(done.err, AllOf(HasSubstr("are needed"), HasSubstr("other processes hold about"),
                              HasSubstr("helps")));
}

}  // namespace
}  // namespace facet
