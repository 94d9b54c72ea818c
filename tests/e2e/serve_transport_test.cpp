// TLS and the Unix socket (server-api 17; reliability 6.2).

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/e2e/certificate.h"
#include "tests/e2e/process.h"
#include "tests/e2e/server.h"

namespace facet {
namespace {

using test::Certificate;
using test::chat_body;
using test::http_request;
using test::HttpAnswer;
using test::kChat;
using test::TempDir;
using test::TestServer;
using test::TlsWire;
using test::Wire;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr int kUnsafe = 78;

class ServeTls : public testing::Test {
 protected:
  ServeTls() {
    dir_.write("cert.pem", certificate_.certificate);
    dir_.write("key.pem", certificate_.key);
  }
  std::vector<std::string> flags() const {
    return {"--tls-cert", dir_.path("cert.pem"), "--tls-key", dir_.path("key.pem")};
  }
  /// The one line of a start that is refused.
  std::string refusal(const std::string& certificate, const std::string& key) const {
    const test::Finished run =
        test::run_facet({"serve", "fable", "--port", "0", "--tls-cert", dir_.path(certificate),
                         "--tls-key", dir_.path(key)});
    EXPECT_EQ(run.exit_code, kUnsafe) << run.err;
    const size_t at = run.err.find("facet: ");
    EXPECT_NE(at, std::string::npos) << run.err;
    const std::string line = run.err.substr(std::min(at, run.err.size()));
    EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
    return line;
  }

  TempDir dir_;
  const Certificate certificate_ = test::make_certificate();
};

TEST_F(ServeTls, SpeaksHttpUnderTls) {
  const TestServer server(flags());
  EXPECT_THAT(server.url(), StartsWith("https://127.0.0.1:"));
  TlsWire wire(server.port(), certificate_.certificate);
  ASSERT_TRUE(wire.trusted());
  // A request in pieces, a body larger than a TLS record, a stream, the end.
  const std::string get = http_request("GET", "/health");
  wire.send(get.substr(0, 9));
  wire.send(get.substr(9));
  const std::string large = fmt::format(R"({{"prompt":"{}"}})", std::string(60000, 'x'));
  wire.send(http_request("POST", "/tokenize", large));
  wire.send(http_request("POST", kChat, chat_body(R"(,"max_tokens":5,"seed":1,"stream":true)"),
                         "Connection: close\r\n"));
  const std::string all = wire.read_all();
  EXPECT_TRUE(wire.ended_properly());
  EXPECT_THAT(all, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(all, HasSubstr(R"({"status":"ok"})"));
  EXPECT_THAT(all, HasSubstr("\"count\":"));
  EXPECT_THAT(all, HasSubstr("data: [DONE]\n\n\r\n0\r\n\r\n"));
}

TEST_F(ServeTls, StreamsEndWithTheirReader) {
  const TestServer server(flags());
  {
    TlsWire wire(server.port(), certificate_.certificate);
    wire.send(http_request("POST", kChat, chat_body(test::kLongStream)));
    EXPECT_FALSE(server.log().empty());
  }
  EXPECT_TRUE(server.logs("cancelled"));
}

TEST_F(ServeTls, PlainHttpIsToldSo) {
  const TestServer server(flags());
  Wire plain = server.connect();
  plain.send(http_request("GET", "/health"));
  const HttpAnswer answer = plain.read_answer();
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr("https://"));
  EXPECT_TRUE(plain.closed());
  Wire large = server.connect();
  large.send(http_request("POST", kChat, std::string(100000, 'x')));
  EXPECT_EQ(large.read_answer().status, 400);
  // What is neither is dropped.
  Wire noise = server.connect();
  noise.send(std::string(100, '\x05'));
  EXPECT_TRUE(noise.closed());
  TlsWire wire(server.port(), certificate_.certificate);
  wire.send(http_request("GET", "/health", "", "Connection: close\r\n"));
  EXPECT_THAT(wire.read_all(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServeTls, BadFilesAreNamedInOneLine) {
  dir_.write("other.pem", test::make_certificate().key);
  dir_.write("locked.pem", certificate_.locked_key);
  dir_.write("noise.pem", "no PEM\n");
  EXPECT_THAT(refusal("none.pem", "key.pem"),
              testing::AllOf(HasSubstr("--tls-cert"), HasSubstr("none.pem: cannot be opened: No")));
  EXPECT_THAT(refusal("cert.pem", "none.pem"),
              testing::AllOf(HasSubstr("--tls-key"), HasSubstr("none.pem: cannot be opened: No")));
  EXPECT_THAT(refusal("noise.pem", "key.pem"), HasSubstr("holds no certificate"));
  EXPECT_THAT(refusal("cert.pem", "noise.pem"), HasSubstr("holds no private key"));
  EXPECT_THAT(refusal("cert.pem", "cert.pem"), HasSubstr("holds no private key"));
  EXPECT_THAT(refusal("cert.pem", "other.pem"), HasSubstr("is not the key of --tls-cert"));
  // It must not wait for somebody to type a passphrase.
  EXPECT_THAT(refusal("cert.pem", "locked.pem"), HasSubstr("without a passphrase"));
}

TEST(ServeUnixSocket, IsServedForItsGroup) {
  const TempDir dir;
  const std::string path = dir.path("facet.sock");
  struct stat found {};
  {
    TestServer server({"--uds", path});
    EXPECT_EQ(server.url(), path);
    ASSERT_EQ(stat(path.c_str(), &found), 0);
    EXPECT_TRUE(S_ISSOCK(found.st_mode));
    EXPECT_EQ(found.st_mode & 0777U, 0660U);
    Wire wire(path);
    wire.send(http_request("GET", "/health") +
              http_request("POST", kChat, chat_body(R"(,"max_tokens":2,"seed":1)")));
    EXPECT_EQ(wire.read_answer().body, R"({"status":"ok"})");
    EXPECT_EQ(wire.read_answer().json().at("usage").at("completion_tokens").as_int64(), 2);
    // A second server does not take it away.
    const test::Finished second = test::run_facet({"serve", "fable", "--uds", path});
    EXPECT_EQ(second.exit_code, test::kUsage);
    EXPECT_THAT(second.err, HasSubstr("another server listens there"));
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait(), 0);
    EXPECT_NE(stat(path.c_str(), &found), 0) << "left behind";
  }
  {
    const TestServer killed({"--uds", path});  // its end leaves the socket behind
  }
  ASSERT_EQ(stat(path.c_str(), &found), 0);
  const TestServer next({"--uds", path});
  Wire wire(path);
  wire.send(http_request("GET", "/health"));
  EXPECT_EQ(wire.read_answer().status, 200);
}

TEST(ServeUnixSocket, OtherFilesAreNotTakenAway) {
  const TempDir dir;
  dir.write("notes", "mine");
  const test::Finished run = test::run_facet({"serve", "fable", "--uds", dir.path("notes")});
  EXPECT_EQ(run.exit_code, test::kUsage);
  EXPECT_THAT(run.err, HasSubstr("cannot listen"));
  EXPECT_EQ(test::read_text(dir.path("notes")), "mine");
}

}  // namespace
}  // namespace facet
