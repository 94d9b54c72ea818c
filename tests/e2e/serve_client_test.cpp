// `facet chat` against `facet serve`.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/process.h"
#include "tests/e2e/server.h"
#include "tests/e2e/terminal.h"

namespace facet {
namespace {

using test::Finished;
using test::kChat;
using test::run_facet;
using test::TestServer;
using testing::HasSubstr;

std::string url_of(const TestServer& server) {
  return "http://127.0.0.1:" + std::to_string(server.port());
}

TEST(ServeClient, PrintsWhatThePlainAnswerSays) {
  const TestServer server;
  const boost::json::value plain =
      server
          .post(kChat, R"({"messages":[{"role":"user","content":"Tell me a story."}],)"
                       R"("max_tokens":12,"temperature":0})")
          .json();
  const Finished chat = run_facet({"chat", "--url", url_of(server), "--temperature", "0",
                                   "--max-tokens", "12", "Tell me a story."});
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  const boost::json::value& said = plain.at("choices").at(0).at("message").at("content");
  EXPECT_EQ(chat.out, std::string(said.as_string()) + "\n");
  EXPECT_THAT(chat.err, HasSubstr("12 tokens"));
}

TEST(ServeClient, SaysWhatTheServerSaid) {
  const TestServer server;
  const Finished chat =
      run_facet({"chat", "--url", url_of(server), "--model", "other", "Tell me a story."});
  EXPECT_NE(chat.exit_code, 0);
  EXPECT_THAT(chat.err, HasSubstr("other"));
  const Finished nobody = run_facet({"chat", "--url", "http://127.0.0.1:1", "x"});
  EXPECT_NE(nobody.exit_code, 0);
  EXPECT_THAT(nobody.err, HasSubstr("127.0.0.1:1: Connection refused"));
}

TEST(ServeClient, CtrlCStopsTheAnswerAndTheServersWork) {
  const TestServer server;
  test::Terminal terminal({"chat", "--url", url_of(server), "--max-tokens", "7000"});
  terminal.read_until(">>> ");
  terminal.type("Tell me a story.\r");
  ASSERT_TRUE(server.becomes_busy());
  terminal.type("\x03");
  terminal.read_until(">>> ");
  EXPECT_TRUE(server.becomes_idle());
  terminal.type("/bye\r");
  EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace facet
