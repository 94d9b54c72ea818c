#include "server/http/client.h"

#include <algorithm>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdlib>
#include <fmt/core.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "server/http/resolve.h"

namespace facet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast::http;
using Tcp = asio::ip::tcp;

constexpr auto kPatience = std::chrono::milliseconds(50);  // between two questions to keep_going
constexpr size_t kPiece = 16384;                           // bytes of a body read at a time

beast::request<beast::string_body> message_of(const Url& url, const ClientRequest& request) {
  beast::request<beast::string_body> message;
  message.method_string(request.method);
  message.target(url.prefix + request.path);
  message.set(beast::field::host, url.authority());
  message.set(beast::field::user_agent, "facet");
  message.set(beast::field::connection, "close");
  for (const auto& [name, value] : request.headers) message.set(name, value);
  message.body() = request.body;
  message.prepare_payload();
  return message;
}

/// Runs one operation after another to its end, asking in between whether to go on.
class Patience {
 public:
  explicit Patience(const KeepGoing& keep_going) : keep_going_(keep_going) {}

  asio::io_context& context() { return context_; }

  /// `start` begins an operation that calls the handler it is given when it is done. Throws
  /// GivenUp, or the operation's error.
  template <class Start>
  void wait(const Start& start) {
    error_ = asio::error::would_block;
    start([this](const boost::system::error_code& error, const auto&... /*result*/) {
      error_ = error;
    });
    context_.restart();
    while (error_ == asio::error::would_block) {
      context_.run_for(kPatience);
      if (error_ == asio::error::would_block && keep_going_ && !keep_going_()) throw GivenUp();
    }
    if (error_ && error_ != beast::error::need_buffer) throw boost::system::system_error(error_);
  }

  struct GivenUp {};

 private:
  const KeepGoing& keep_going_;
  asio::io_context context_{1};
  boost::system::error_code error_;
};

template <class Stream>
void exchange(Patience& patience,
              Stream& stream,
              const beast::request<beast::string_body>& message,
              const OnBody& on_body,
              ClientAnswer& answer) {
  patience.wait([&](auto done) { beast::async_write(stream, message, std::move(done)); });
  boost::beast::flat_buffer buffer;
  beast::response_parser<beast::buffer_body> parser;
  parser.body_limit(boost::none);
  patience.wait(
      [&](auto done) { beast::async_read_header(stream, buffer, parser, std::move(done)); });
  answer.status = static_cast<int32_t>(parser.get().result_int());
  answer.content_type = parser.get()[beast::field::content_type];
  const bool hand_out = on_body && answer.status == 200;
  std::array<char, kPiece> piece{};
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    patience.wait(
        [&](auto done) { beast::async_read_some(stream, buffer, parser, std::move(done)); });
    const std::string_view bytes(piece.data(), piece.size() - parser.get().body().size);
    if (hand_out) {
      on_body(bytes);
    } else {
      answer.body += bytes;
    }
  }
}

/// Where systems keep the authorities they trust, in one file. OpenSSL itself knows one place only,
/// that of the system it was built for, and this program runs on others as well.
constexpr std::array kAuthorities = {
    "/etc/ssl/certs/ca-certificates.crt",  // Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",    // Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",              // SUSE
};

/// SSL_CERT_FILE and SSL_CERT_DIR come first; finding nothing shows when a certificate is verified.
void trust_the_system(asio::ssl::context& context) {
  SystemError ignored;
  context.set_default_verify_paths(ignored);
  const bool chosen = std::getenv(X509_get_default_cert_file_env()) != nullptr;
  if (chosen || access(X509_get_default_cert_dir(), R_OK) == 0) return;
  for (const char* file : kAuthorities) {
    if (access(file, R_OK) == 0) {
      context.load_verify_file(file, ignored);
      return;
    }
  }
}

void talk(Patience& patience,
          const Url& url,
          const beast::request<beast::string_body>& message,
          const OnBody& on_body,
          ClientAnswer& answer) {
  Tcp::resolver resolver(patience.context());
  Addresses found;
  patience.wait([&](auto done) {
    resolver.async_resolve(url.host, url.port, [&, done](SystemError error, Addresses results) {
      found = known_addresses(std::move(results), url.host, url.port, error);
      done(error);
    });
  });
  const auto connect = [&](Tcp::socket& socket) {
    patience.wait([&](auto done) { asio::async_connect(socket, found, std::move(done)); });
  };
  if (!url.tls) {
    Tcp::socket socket(patience.context());
    connect(socket);
    exchange(patience, socket, message, on_body, answer);
    return;
  }
  asio::ssl::context context(asio::ssl::context::tls_client);
  trust_the_system(context);
  asio::ssl::stream<Tcp::socket> stream(patience.context(), context);
  stream.set_verify_mode(asio::ssl::verify_peer);
  stream.set_verify_callback(asio::ssl::host_name_verification(url.host));
  SSL_set_tlsext_host_name(stream.native_handle(), url.host.c_str());
  connect(stream.next_layer());
  try {
    patience.wait([&](auto done) {
      stream.async_handshake(asio::ssl::stream_base::client, std::move(done));
    });
  } catch (const boost::system::system_error&) {
    const long verdict = SSL_get_verify_result(stream.native_handle());
    if (verdict == X509_V_OK) throw;
    throw Error(ErrorCode::kIo,
                fmt::format("its certificate is not trusted: {} (SSL_CERT_FILE names a file of "
                            "authorities to trust)",
                            X509_verify_cert_error_string(verdict)),
                url.authority());
  }
  exchange(patience, stream, message, on_body, answer);
}

[[noreturn]] void refuse(std::string_view text, const char* wanted) {
  throw Error(ErrorCode::kUsage, fmt::format("'{}', wanted {}", printable(text, 80), wanted),
              "url");
}

}  // namespace

Url Url::parse(std::string_view text) {
  constexpr const char* kWanted = "http://HOST:PORT or https://HOST:PORT";
  const std::string_view whole = text;
  Url url;
  if (text.starts_with("https://")) {
    url.tls = true;
  } else if (!text.starts_with("http://")) {
    refuse(whole, kWanted);
  }
  text.remove_prefix(url.tls ? 8 : 7);
  const size_t slash = std::min(text.find('/'), text.size());
  url.prefix = text.substr(slash);
  while (url.prefix.ends_with('/')) url.prefix.pop_back();
  text = text.substr(0, slash);
  size_t host_end = text.find(':');
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) refuse(whole, kWanted);
    url.host = text.substr(1, bracket - 1);
    host_end = bracket + 1;
  } else {
    url.host = text.substr(0, host_end);
  }
  url.port = url.tls ? "443" : "80";
  if (host_end < text.size()) {
    if (text[host_end] != ':') refuse(whole, kWanted);
    url.port = text.substr(host_end + 1);
  }
  const bool digits =
      !url.port.empty() && url.port.size() <= 5 &&
      std::all_of(url.port.begin(), url.port.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (url.host.empty() || !digits) refuse(whole, kWanted);
  return url;
}

std::string Url::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? "443" : "80") ? name : name + ":" + port;
}

ClientAnswer send(const Url& url,
                  const ClientRequest& request,
                  const OnBody& on_body,
                  const KeepGoing& keep_going) {
  const auto message = message_of(url, request);
  ClientAnswer answer;
  try {
    Patience patience(keep_going);
    talk(patience, url, message, on_body, answer);
  } catch (const Patience::GivenUp&) {
  } catch (const boost::system::system_error& error) {
    throw Error(ErrorCode::kIo, error.code().message(), url.authority());
  }
  return answer;
}

}  // namespace facet::http
