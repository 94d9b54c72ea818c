#pragma once

#include <boost/json/value.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "tests/support.h"

namespace facet::test {

/// What came back over a socket.
struct HttpAnswer {
  int status = 0;                             ///< 0: nothing came
  std::map<std::string, std::string> fields;  ///< names in lower case
  std::string body;                           ///< chunks joined

  boost::json::value json() const;
  /// error.code of the body; empty if it has none.
  std::string code() const;
};

/// Sanitizers slow a model down tenfold and more.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
/// How long an answer may take.
inline constexpr std::chrono::seconds kPatience{kSanitized ? 240 : 30};

/// The field that carries a key.
std::string bearer(std::string_view key);

/// A socket to a server, and nothing in between: what is sent is exactly what is given.
class Wire {
 public:
  /// `receive_buffer`: bytes that the kernel keeps of what was not read; 0: its default.
  explicit Wire(int port, int receive_buffer = 0);
  /// nullopt if nobody listens.
  static std::optional<Wire> connect(int port);
  /// To a Unix socket.
  explicit Wire(const std::string& path);
  ~Wire();
  Wire(Wire&& other) noexcept;
  Wire& operator=(Wire&&) = delete;

  /// false if the server has closed.
  bool send(std::string_view bytes);
  /// Reads one answer; status 0 if the server closes, or nothing comes for `patience`.
  HttpAnswer read_answer(std::chrono::milliseconds patience = kPatience);
  /// Reads an answer that has no body, whatever it says.
  HttpAnswer read_head(std::chrono::milliseconds patience = kPatience);
  /// Reads until `text` has come; false if the server closes or nothing comes.
  bool read_until(std::string_view text);
  /// Does the server close the connection within `patience`? Drops what it sends before.
  bool closed(std::chrono::milliseconds patience = std::chrono::seconds(10));
  /// Sends the end of the stream; what the server sends can still be read.
  void half_close();
  /// Closes with a reset instead of a farewell.
  void reset();
  int descriptor() const { return fd_; }

 private:
  Wire() = default;
  bool fill(std::chrono::milliseconds patience);

  int fd_ = -1;
  std::string unread_;
};

inline constexpr const char* kChat = "/v1/chat/completions";
/// Members for chat_body(): an answer that takes a while.
inline constexpr const char* kLong = R"(,"max_tokens":4000,"ignore_eos":true,"seed":1)";
inline constexpr const char* kLongStream =
    R"(,"max_tokens":4000,"ignore_eos":true,"seed":1,"stream":true)";

/// `facet serve fable` on a free port, or with --uds on a Unix socket, with further flags;
/// `environment` as in RunOptions.
class TestServer {
 public:
  explicit TestServer(const std::vector<std::string>& flags = {},
                      const std::vector<std::string>& environment = {});
  /// Another program that says "ready in" and its address as `facet serve` does.
  TestServer(const std::string& program,
             const std::vector<std::string>& arguments,
             const std::vector<std::string>& environment = {});
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  int port() const { return port_; }
  pid_t pid() const { return child_; }
  /// As the log says it: http://127.0.0.1:8000, https://…, or the path of the socket.
  const std::string& url() const { return url_; }
  Wire connect(int receive_buffer = 0) const { return Wire(port_, receive_buffer); }
  /// One request on a connection of its own. Lines of `fields` end in \r\n.
  HttpAnswer request(std::string_view method,
                     std::string_view path,
                     std::string_view body = {},
                     std::string_view fields = {}) const;
  HttpAnswer post(std::string_view path, std::string_view body) const {
    return request("POST", path, body);
  }
  /// The test fails unless the server still answers a good request as it should.
  void expect_well() const;
  /// Waits until nothing runs or waits in the engine; false if that takes over ten seconds.
  bool becomes_idle() const;
  /// Waits until something runs in the engine; false if that takes over ten seconds.
  bool becomes_busy() const;
  /// A request that keeps one running sequence busy for many seconds, and says nothing meanwhile.
  Wire occupy() const;

  void signal(int number) const;
  /// Waits for the end of the program; its exit code, or -signal.
  int wait();
  std::string log() const;
  /// Waits until the log says `text`; false if it does not within six seconds.
  bool logs(std::string_view text) const;

 private:
  bool becomes(const std::function<bool(const boost::json::value& ready)>& done) const;

  std::unique_ptr<TempDir> dir_ = std::make_unique<TempDir>();
  pid_t child_ = -1;
  int port_ = 0;
  std::string url_;
};

/// Bytes of a request with everything it needs.
std::string http_request(std::string_view method,
                         std::string_view path,
                         std::string_view body = {},
                         std::string_view fields = {});

/// The JSON of each event of a stream, and whether [DONE] came last.
struct Events {
  std::vector<boost::json::value> all;
  bool done = false;
};
Events events_of(const std::string& body);

/// A chat of one short question; `more` are further members, beginning with a comma.
std::string chat_body(std::string_view more = {});

}  // namespace facet::test
