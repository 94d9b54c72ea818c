#include "tests/e2e/server.h"

#include <arpa/inet.h>
#include <boost/json/parse.hpp>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "base/text.h"
#include "tests/e2e/process.h"

namespace facet::test {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kStart = std::chrono::seconds(60);

/// Takes the chunks of a body off `text`; nothing if it is not complete.
std::optional<std::string> take_chunks(std::string& text) {
  std::string body;
  size_t at = 0;
  while (true) {
    const size_t line = text.find("\r\n", at);
    if (line == std::string::npos) return std::nullopt;
    const size_t size = std::stoul(text.substr(at, line - at), nullptr, 16);
    if (text.size() < line + 2 + size + 2) return std::nullopt;
    body += text.substr(line + 2, size);
    at = line + 2 + size + 2;
    if (size == 0) break;
  }
  text.erase(0, at);
  return body;
}

bool connect_loopback(int socket, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

boost::json::value HttpAnswer::json() const {
  boost::json::error_code fault;
  boost::json::value value = boost::json::parse(body, fault);
  EXPECT_FALSE(fault) << "no JSON: " << body;
  return value;
}

std::string HttpAnswer::code() const {
  const boost::json::value value = json();
  const auto* object = value.if_object();
  const auto* error = object != nullptr ? object->if_contains("error") : nullptr;
  if (error == nullptr || !error->is_object()) return {};
  const auto* found = error->get_object().if_contains("code");
  return found != nullptr && found->is_string() ? std::string(found->get_string()) : std::string();
}

// ---- Wire

Wire::Wire(int port, int receive_buffer) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  if (receive_buffer > 0)
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  if (!connect_loopback(fd_, port)) ADD_FAILURE() << "cannot connect to port " << port;
}

std::optional<Wire> Wire::connect(int port) {
  Wire wire;
  wire.fd_ = socket(AF_INET, SOCK_STREAM, 0);
  if (!connect_loopback(wire.fd_, port)) return std::nullopt;
  return wire;
}

Wire::Wire(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    ADD_FAILURE() << "cannot connect to " << path;
}

Wire::~Wire() {
  if (fd_ >= 0) close(fd_);
}

Wire::Wire(Wire&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), unread_(std::move(other.unread_)) {}

bool Wire::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool Wire::fill(milliseconds patience) {
  pollfd wanted{fd_, POLLIN, 0};
  if (poll(&wanted, 1, static_cast<int>(patience.count())) <= 0) return false;
  char buffer[65536];
  const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
  if (got <= 0) return false;
  unread_.append(buffer, static_cast<size_t>(got));
  return true;
}

HttpAnswer Wire::read_head(milliseconds patience) {
  size_t end = std::string::npos;
  while ((end = unread_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill(patience)) return {};
  }
  HttpAnswer answer;
  answer.status = std::stoi(unread_.substr(9, 3));
  for (size_t at = unread_.find("\r\n") + 2; at < end + 2;) {
    const size_t line = unread_.find("\r\n", at);
    const size_t colon = unread_.find(": ", at);
    answer.fields[ascii_lower(unread_.substr(at, colon - at))] =
        unread_.substr(colon + 2, line - colon - 2);
    at = line + 2;
  }
  unread_.erase(0, end + 4);
  return answer;
}

HttpAnswer Wire::read_answer(milliseconds patience) {
  HttpAnswer answer = read_head(patience);
  if (answer.status == 0 || answer.status == 100) return answer;
  if (answer.fields.contains("transfer-encoding")) {
    while (true) {
      if (auto body = take_chunks(unread_)) {
        answer.body = std::move(*body);
        return answer;
      }
      if (!fill(patience)) return {};
    }
  }
  const auto length = answer.fields.find("content-length");
  if (length == answer.fields.end()) return answer;
  const size_t size = std::stoul(length->second);
  while (unread_.size() < size) {
    if (!fill(patience)) return {};
  }
  answer.body = unread_.substr(0, size);
  unread_.erase(0, size);
  return answer;
}

bool Wire::read_until(std::string_view text) {
  while (unread_.find(text) == std::string::npos) {
    if (!fill(kPatience)) return false;
  }
  return true;
}

bool Wire::closed(milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  while (true) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd wanted{fd_, POLLIN, 0};
    if (poll(&wanted, 1, static_cast<int>(left.count())) <= 0) return false;
    char buffer[65536];
    if (recv(fd_, buffer, sizeof buffer, 0) <= 0) return true;
  }
}

void Wire::half_close() { shutdown(fd_, SHUT_WR); }

void Wire::reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(std::exchange(fd_, -1));
}

// ---- TestServer

namespace {

/// What `facet serve` computes on: FACET_TEST_BACKEND of the environment, or the CPU.
std::string test_backend() {
  const char* chosen = std::getenv("FACET_TEST_BACKEND");
  return chosen != nullptr ? chosen : "cpu";
}

/// Skips all tests of the program where there is nothing to compute on.
class BackendEnvironment final : public testing::Environment {
 public:
  void SetUp() override {
    if (test_backend() == "cpu") return;
    const Finished tried =
        run_facet({"run", "fable", "Hello", "--max-tokens", "1", "--backend", test_backend()});
    if (tried.exit_code == kDevice) GTEST_SKIP() << tried.err;
    ASSERT_EQ(tried.exit_code, 0) << tried.err;
  }
};

[[maybe_unused]] const testing::Environment* const g_backend_environment =
    testing::AddGlobalTestEnvironment(new BackendEnvironment);

std::vector<std::string> serve_arguments(const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {"serve", "fable",     "--backend", test_backend(), "--port",
                                        "0",     "--threads", "1",         "--kv-memory",  "100MB"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return arguments;
}

}  // namespace

TestServer::TestServer(const std::vector<std::string>& flags,
                       const std::vector<std::string>& environment)
    : TestServer(facet_program(), serve_arguments(flags), environment) {}

TestServer::TestServer(const std::string& program,
                       const std::vector<std::string>& arguments,
                       const std::vector<std::string>& environment) {
  child_ = start_program(program, arguments, dir_->path("log"), environment);
  const auto deadline = Clock::now() + kStart;
  while (Clock::now() < deadline && log().find("ready in") == std::string::npos) {
    int status = 0;
    if (waitpid(child_, &status, WNOHANG) == child_) {
      ADD_FAILURE() << "the server ended: " << log();
      child_ = -1;
      return;
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  const std::string text = log();
  // Of the summary, which is there at any level of the log.
  const std::string label = "\naddress";
  const size_t line = text.find(label);
  if (line == std::string::npos) {
    ADD_FAILURE() << "no address: " << text;
    return;
  }
  const size_t at = text.find_first_not_of(' ', line + label.size());
  url_ = text.substr(at, text.find('\n', at) - at);
  if (url_.starts_with("http")) port_ = std::stoi(url_.substr(url_.rfind(':') + 1));
}

TestServer::~TestServer() {
  if (child_ < 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

std::string TestServer::log() const {
  const int fd = open(dir_->path("log").c_str(), O_RDONLY);
  if (fd < 0) return {};
  close(fd);
  return read_text(dir_->path("log"));
}

HttpAnswer TestServer::request(std::string_view method,
                               std::string_view path,
                               std::string_view body,
                               std::string_view fields) const {
  Wire wire = connect();
  wire.send(http_request(method, path, body, fields));
  return wire.read_answer();
}

void TestServer::expect_well() const {
  const HttpAnswer answer = post("/v1/chat/completions", chat_body(R"(,"max_tokens":2,"seed":1)"));
  EXPECT_EQ(answer.status, 200) << answer.body << log();
  EXPECT_EQ(answer.json().at("usage").at("completion_tokens").as_int64(), 2);
}

bool TestServer::becomes(const std::function<bool(const boost::json::value& ready)>& done) const {
  for (int i = 0; i < 1000; ++i) {
    if (done(request("GET", "/health/ready").json())) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

bool TestServer::becomes_idle() const {
  return becomes([](const boost::json::value& ready) {
    return ready.at("running").as_int64() + ready.at("waiting").as_int64() == 0;
  });
}

bool TestServer::becomes_busy() const {
  return becomes(
      [](const boost::json::value& ready) { return ready.at("running").as_int64() > 0; });
}

bool TestServer::logs(std::string_view text) const {
  for (int i = 0; i < 1200; ++i) {
    if (log().find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return false;
}

Wire TestServer::occupy() const {
  Wire wire = connect();
  wire.send(http_request("POST", kChat,
                         chat_body(R"(,"max_tokens":8000,"n":16,"ignore_eos":true,"seed":1)")));
  EXPECT_TRUE(becomes_busy()) << "the request does not begin";
  return wire;
}

void TestServer::signal(int number) const { kill(child_, number); }

int TestServer::wait() {
  int status = 0;
  waitpid(std::exchange(child_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// ---- Bodies

std::string bearer(std::string_view key) {
  return fmt::format("Authorization: Bearer {}\r\n", key);
}

std::string http_request(std::string_view method,
                         std::string_view path,
                         std::string_view body,
                         std::string_view fields) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}", method, path, fields);
  if (method == "POST") {
    text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  }
  text += "\r\n";
  text += body;
  return text;
}

Events events_of(const std::string& body) {
  Events events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    const std::string line = body.substr(at, end - at);
    at = end == std::string::npos ? body.size() : end + 2;
    EXPECT_FALSE(events.done) << "behind [DONE]: " << line;
    if (line.starts_with(": ")) continue;
    EXPECT_TRUE(line.starts_with("data: ")) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    if (line == "data: [DONE]") {
      events.done = true;
    } else {
      events.all.push_back(boost::json::parse(line.substr(6)));
    }
  }
  return events;
}

std::string chat_body(std::string_view more) {
  return fmt::format(R"({{"messages":[{{"role":"user","content":"Tell me a story."}}]{}}})", more);
}

}  // namespace facet::test
