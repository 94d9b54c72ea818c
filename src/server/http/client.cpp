#include "server/http/client.h"

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <exception>
#include <fmt/core.h>
#include <memory>

#include "base/error.h"
#include "base/text.h"

// GCC 12 takes the frame allocator of Asio's coroutines for a mismatch; both halves are Asio's own.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace facet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast::http;
using asio::use_awaitable;
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

template <class Stream>
asio::awaitable<void> exchange(Stream& stream,
                               const beast::request<beast::string_body>& message,
                               const OnBody& on_body,
                               ClientAnswer& answer) {
  co_await beast::async_write(stream, message, use_awaitable);
  boost::beast::flat_buffer buffer;
  beast::response_parser<beast::buffer_body> parser;
  parser.body_limit(boost::none);
  co_await beast::async_read_header(stream, buffer, parser, use_awaitable);
  answer.status = static_cast<int32_t>(parser.get().result_int());
  answer.content_type = parser.get()[beast::field::content_type];
  const bool hand_out = on_body && answer.status == 200;
  std::array<char, kPiece> piece{};
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    boost::system::error_code fault;
    co_await beast::async_read_some(stream, buffer, parser,
                                    asio::redirect_error(use_awaitable, fault));
    if (fault && fault != beast::error::need_buffer) throw boost::system::system_error(fault);
    const std::string_view bytes(piece.data(), piece.size() - parser.get().body().size);
    if (hand_out) {
      on_body(bytes);
    } else {
      answer.body += bytes;
    }
  }
}

asio::awaitable<void> talk(const Url& url,
                           const beast::request<beast::string_body>& message,
                           const OnBody& on_body,
                           ClientAnswer& answer) {
  const auto executor = co_await asio::this_coro::executor;
  Tcp::resolver resolver(executor);
  const auto found = co_await resolver.async_resolve(url.host, url.port, use_awaitable);
  if (!url.tls) {
    Tcp::socket socket(executor);
    co_await asio::async_connect(socket, found, use_awaitable);
    co_await exchange(socket, message, on_body, answer);
    co_return;
  }
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.set_default_verify_paths();
  asio::ssl::stream<Tcp::socket> stream(executor, context);
  stream.set_verify_mode(asio::ssl::verify_peer);
  stream.set_verify_callback(asio::ssl::host_name_verification(url.host));
  SSL_set_tlsext_host_name(stream.native_handle(), url.host.c_str());
  co_await asio::async_connect(stream.next_layer(), found, use_awaitable);
  co_await stream.async_handshake(asio::ssl::stream_base::client, use_awaitable);
  co_await exchange(stream, message, on_body, answer);
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
  std::exception_ptr failure;
  bool done = false;
  {
    asio::io_context context(1);
    asio::co_spawn(context, talk(url, message, on_body, answer), [&](std::exception_ptr thrown) {
      failure = std::move(thrown);
      done = true;
    });
    while (!done) {
      context.run_for(kPatience);
      if (!done && keep_going && !keep_going()) return answer;
    }
  }
  if (!failure) return answer;
  try {
    std::rethrow_exception(failure);
  } catch (const boost::system::system_error& error) {
    throw Error(ErrorCode::kIo, error.code().message(), url.authority());
  }
}

}  // namespace facet::http
