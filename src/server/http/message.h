#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace facet::http {

/// One header field.
struct Field {
  std::string name;  ///< of a request: in lower case
  std::string value;
};

/// All of a request but its body.
struct RequestHead {
  std::string method;
  std::string path;   ///< of the target, up to '?'
  std::string query;  ///< what follows it
  std::vector<Field> fields;
  std::string peer;            ///< address without port; empty for a Unix socket
  bool peer_is_local = false;  ///< a loopback address or a Unix socket
  bool over_capacity = false;  ///< more connections are open than the limit
  bool has_body = false;

  /// The value of the first field called `name` (lower case); nullptr if there is none.
  const std::string* field(std::string_view name) const;
  /// How many fields are called `name`.
  int32_t count(std::string_view name) const;
};

/// A whole answer, or the head of a streamed one (then without body).
struct Response {
  int32_t status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<Field> fields;  ///< beside Content-Type, Content-Length, Connection and the like
};

/// What the protocol refuses by itself.
enum class Fault {
  kBadRequest,       ///< 400: not HTTP as it should be
  kTimeout,          ///< 408: head or body came too slowly
  kPayloadTooLarge,  ///< 413
  kUriTooLong,       ///< 414
  kHeadersTooLarge,  ///< 431
  kVersion,          ///< 505
  kNoTls,            ///< 400: plain HTTP where TLS is spoken
};

/// What becomes of a connection once a stream has ended.
enum class After { kKeepOpen, kClose };

/// The way to answer one request. To be used on the loop's thread alone. When the peer is gone
/// everything is accepted and dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// The whole answer.
  virtual void respond(Response response) = 0;
  /// The head of an answer whose body comes in pieces.
  virtual void begin_stream(Response head) = 0;
  virtual void write(std::string_view data) = 0;
  virtual void end_stream(After after) = 0;
  /// Ends the connection at once, so that what was sent does not look complete.
  virtual void abort() = 0;
  /// `gone` is called once if the peer goes away, or reads too slowly, before the answer is
  /// complete.
  virtual void on_gone(std::function<void()> gone) = 0;
};

/// Whoever answers requests. All calls come on the loop's thread.
class Handler {
 public:
  virtual ~Handler() = default;

  struct Admission {
    std::optional<Response> refusal;  ///< the answer, if the body need not be read
    uint64_t body_limit = 0;          ///< bytes
  };
  /// A head is complete: is the body wanted?
  virtual Admission admit(const RequestHead& head) = 0;
  /// The request is complete. The exchange may be answered at any later time.
  virtual void handle(RequestHead head, std::string body, std::shared_ptr<Exchange> exchange) = 0;
  /// The answer to a request that is refused before admit(), or whose body is. `head` may be null.
  virtual Response refuse(Fault fault, const RequestHead* head) = 0;
};

}  // namespace facet::http
