#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace facet::http {

using Socket = boost::asio::generic::stream_protocol::socket;
using SystemError = boost::system::error_code;

/// The bytes of one connection: TCP or a Unix socket, plain or under TLS. One thread. At most one
/// read and one write at a time; callbacks are not called after close() but for those under way,
/// which then get an error.
class Transport {
 public:
  /// `data` is valid during the call only; boost::asio::error::eof at the peer's end.
  using OnRead = std::function<void(const SystemError& error, std::string_view data)>;
  using OnDone = std::function<void(const SystemError& error, size_t bytes)>;

  virtual ~Transport() = default;
  /// Whatever must be done before the first byte. kPlainHttp: the peer speaks HTTP where TLS is
  /// spoken; from then on bytes go as they are, so that it can be told.
  enum class Opened { kYes, kPlainHttp, kFailed };
  using OnOpened = std::function<void(Opened)>;
  virtual void handshake(OnOpened done) = 0;
  virtual void read(OnRead done) = 0;
  /// Writes some of `data`, which must stay where it is until `done`.
  virtual void write(std::string_view data, OnDone done) = 0;
  /// Bytes written that the peer's system has not taken yet; those of a write() under way may be
  /// among them. 0 of Unix sockets, where all that is written is there.
  virtual int64_t untaken() = 0;
  /// Waits until the connection is broken in both directions.
  virtual void wait_broken(OnDone done) = 0;
  /// Can the peer end its direction and still read?
  virtual bool half_close() const = 0;
  /// No more bytes will be written; tells the peer so. `done` keeps alive what must be until then.
  virtual void shutdown_send(OnDone done) = 0;
  /// What was written and not taken yet is dropped by close(), and the peer told by a reset.
  /// Without it the system goes on offering it to a peer that takes nothing, for minutes.
  virtual void drop_unsent() = 0;
  virtual void close() = 0;
};

/// `scratch` is read into and shared by all plain transports of a thread, so that an idle
/// connection holds no buffer.
std::unique_ptr<Transport> make_plain_transport(Socket socket, std::vector<char>& scratch);
std::unique_ptr<Transport> make_tls_transport(Socket socket, boost::asio::ssl::context& context);

}  // namespace facet::http
