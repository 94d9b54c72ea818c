#include "server/http/transport.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <utility>

namespace facet::http {
namespace {

namespace asio = boost::asio;

void wait_for_error(Socket& socket, Transport::OnDone done) {
  socket.async_wait(Socket::wait_error,
                    [done = std::move(done)](const SystemError& error) { done(error, 0); });
}

void shut(Socket& socket) {
  SystemError ignored;
  socket.shutdown(Socket::shutdown_send, ignored);
}

int64_t not_acknowledged(Socket& socket) {
  SystemError unknown;
  int bytes = 0;
  if (socket.local_endpoint(unknown).protocol().family() == AF_UNIX) return 0;
  return ioctl(socket.native_handle(), SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

void linger_no_more(Socket& socket) {
  SystemError ignored;
  socket.set_option(asio::socket_base::linger(true, 0), ignored);
}

void close_socket(Socket& socket) {
  SystemError ignored;
  socket.close(ignored);
}

class PlainTransport final : public Transport {
 public:
  PlainTransport(Socket socket, std::vector<char>& scratch)
      : socket_(std::move(socket)), scratch_(scratch) {
    SystemError ignored;
    socket_.non_blocking(true, ignored);
  }

  void handshake(OnOpened done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)] { done(Opened::kYes); });
  }

  void read(OnRead done) override {
    socket_.async_wait(Socket::wait_read,
                       [this, done = std::move(done)](const SystemError& failure) mutable {
                         if (failure) return done(failure, {});
                         SystemError error;
                         const size_t bytes = socket_.read_some(asio::buffer(scratch_), error);
                         if (error == asio::error::would_block) return read(std::move(done));
                         done(error, {scratch_.data(), bytes});
                       });
  }

  void write(std::string_view data, OnDone done) override {
    socket_.async_write_some(asio::buffer(data.data(), data.size()), std::move(done));
  }
  void wait_broken(OnDone done) override { wait_for_error(socket_, std::move(done)); }
  bool half_close() const override { return true; }
  void shutdown_send(OnDone /*done*/) override { shut(socket_); }
  int64_t untaken() override { return not_acknowledged(socket_); }
  void drop_unsent() override { linger_no_more(socket_); }
  void close() override { close_socket(socket_); }

 private:
  Socket socket_;
  std::vector<char>& scratch_;  // owned by the listener
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(Socket socket, asio::ssl::context& context) : stream_(std::move(socket), context) {}

  void handshake(OnOpened done) override {
    stream_.async_handshake(
        asio::ssl::stream_base::server, [this, done = std::move(done)](const SystemError& error) {
          plain_ = is_plain_http(error);
          done(!error ? Opened::kYes : plain_ ? Opened::kPlainHttp : Opened::kFailed);
        });
  }
  void read(OnRead done) override {
    auto got = [this, done = std::move(done)](const SystemError& error, size_t bytes) {
      // A peer that closes without TLS's own farewell has closed all the same.
      const bool cut = error == asio::ssl::error::stream_truncated;
      done(cut ? SystemError(asio::error::eof) : error, {buffer_.data(), bytes});
    };
    if (plain_) {
      stream_.next_layer().async_read_some(asio::buffer(buffer_), std::move(got));
    } else {
      stream_.async_read_some(asio::buffer(buffer_), std::move(got));
    }
  }
  void write(std::string_view data, OnDone done) override {
    const asio::const_buffer bytes = asio::buffer(data.data(), data.size());
    if (plain_) {
      stream_.next_layer().async_write_some(bytes, std::move(done));
    } else {
      stream_.async_write_some(bytes, std::move(done));
    }
  }
  void wait_broken(OnDone done) override { wait_for_error(stream_.next_layer(), std::move(done)); }
  bool half_close() const override { return false; }
  // TLS's own farewell first: a reader must be able to tell a complete answer from a cut one.
  void shutdown_send(OnDone done) override {
    if (plain_) return shut(stream_.next_layer());
    stream_.async_shutdown([done = std::move(done)](const SystemError& error) { done(error, 0); });
  }
  int64_t untaken() override { return not_acknowledged(stream_.next_layer()); }
  void drop_unsent() override { linger_no_more(stream_.next_layer()); }
  void close() override { close_socket(stream_.next_layer()); }

 private:
  static bool is_plain_http(const SystemError& error) {
    return error.category() == asio::error::get_ssl_category() &&
           ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST;
  }

  asio::ssl::stream<Socket> stream_;
  bool plain_ = false;  // the handshake failed: the peer spoke HTTP
  std::array<char, 4096> buffer_{};
};

}  // namespace

std::unique_ptr<Transport> make_plain_transport(Socket socket, std::vector<char>& scratch) {
  return std::make_unique<PlainTransport>(std::move(socket), scratch);
}

std::unique_ptr<Transport> make_tls_transport(Socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsTransport>(std::move(socket), context);
}

}  // namespace facet::http
