#include "server/http/client_stream.h"

#include <algorithm>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>
#include <fmt/core.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "server/http/resolve.h"

namespace facet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast::http;

constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr size_t kMostHeadBytes = 64 << 10;

/// A server may stream for hours, a chunk for each token.
const Limits kNoLimits{.chunks = INT32_MAX};

Endpoint first_that_connects(const std::vector<Endpoint>& endpoints, const std::string& place) {
  asio::io_context io;
  SystemError error = asio::error::host_not_found;
  for (const Endpoint& endpoint : endpoints) {
    Socket socket(io);
    socket.connect(endpoint, error);
    if (!error) return endpoint;
  }
  throw Error(ErrorCode::kIo, error.message(), place);
}

}  // namespace

Endpoint reachable_endpoint(const Url& url) {
  SystemError error;
  const Addresses found = resolve(url.host, url.port, error);
  if (error) throw Error(ErrorCode::kIo, error.message(), url.authority());
  std::vector<Endpoint> endpoints;
  for (const auto& entry : found) endpoints.emplace_back(entry.endpoint());
  return first_that_connects(endpoints, url.authority());
}

Endpoint reachable_endpoint(const std::string& unix_socket) {
  if (unix_socket.size() >= sizeof(sockaddr_un::sun_path)) {
    throw Error(ErrorCode::kUsage,
                fmt::format("the path has {} bytes, wanted fewer than {}", unix_socket.size(),
                            sizeof(sockaddr_un::sun_path)),
                printable(unix_socket));
  }
  return first_that_connects({asio::local::stream_protocol::endpoint(unix_socket)}, unix_socket);
}

std::string request_bytes(const Url& url, const ClientRequest& request) {
  std::string bytes =
      fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: facet\r\nConnection: close\r\n",
                  request.method, url.prefix, request.path, url.authority());
  for (const auto& [name, value] : request.headers) bytes += fmt::format("{}: {}\r\n", name, value);
  if (request.method == "POST") bytes += fmt::format("Content-Length: {}\r\n", request.body.size());
  return bytes + "\r\n" + request.body;
}

ClientStream::ClientStream(asio::io_context& io, std::vector<char>& scratch)
    : socket_(io), scratch_(scratch), chunks_(kNoLimits) {}

void ClientStream::start(const Endpoint& endpoint, std::string request, Handlers handlers) {
  out_ = std::move(request);
  handlers_ = std::move(handlers);
  socket_.async_connect(endpoint, [self = shared_from_this()](const SystemError& error) {
    if (self->over_) return;
    if (error) return self->end("cannot connect: " + error.message());
    const int one = 1;  // has no effect on a Unix socket
    (void)setsockopt(self->socket_.native_handle(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    self->transport_ = make_plain_transport(std::move(self->socket_), self->scratch_);
    self->write_some();
    self->read_some();
  });
}

void ClientStream::write_some() {
  transport_->write(std::string_view(out_).substr(sent_),
                    [self = shared_from_this()](const SystemError& error, size_t bytes) {
                      // A server that refuses may do so without reading all: its answer counts.
                      if (self->over_ || error) return;
                      self->sent_ += bytes;
                      if (self->sent_ < self->out_.size()) return self->write_some();
                      std::string().swap(self->out_);
                    });
}

void ClientStream::read_some() {
  transport_->read([self = shared_from_this()](const SystemError& error, std::string_view data) {
    if (self->over_) return;
    if (!error) {
      self->take(data);
      if (!self->over_) self->read_some();
      return;
    }
    const bool whole =
        error == asio::error::eof && self->head_done_ && self->framing_ == Framing::kToTheEnd;
    self->end(whole ? std::string() : "the connection ended: " + error.message());
  });
}

void ClientStream::take(std::string_view data) {
  if (head_done_) return take_body(data);
  const size_t old = head_.size();
  head_ += data;
  const size_t end_at = head_.find(kHeadEnd, old < kHeadEnd.size() ? 0 : old - kHeadEnd.size());
  if (end_at == std::string::npos) {
    if (head_.size() > kMostHeadBytes) end("the head of the answer is too long");
    return;
  }
  const std::string rest = head_.substr(end_at + kHeadEnd.size());
  head_.resize(end_at + kHeadEnd.size());
  if (!take_head()) return end("the answer is no HTTP");
  if (!over_) take_body(rest);
}

bool ClientStream::take_head() {
  beast::response_parser<beast::empty_body> parser;
  SystemError error;
  parser.put(asio::buffer(head_), error);
  if (error || !parser.is_header_done()) return false;
  if (parser.chunked()) {
    framing_ = Framing::kChunked;
  } else if (const auto length = parser.content_length()) {
    framing_ = Framing::kLength;
    left_ = *length;
  }
  head_done_ = true;
  std::string().swap(head_);
  handlers_.on_head(static_cast<int>(parser.get().result_int()));
  return true;
}

void ClientStream::take_body(std::string_view data) {
  bool done = false;
  if (framing_ == Framing::kChunked) {
    body_.clear();
    chunks_.take(data, UINT64_MAX / 2, body_);
    if (chunks_.fault()) return end("the chunks of the answer are broken");
    data = body_;
    done = chunks_.done();
  } else if (framing_ == Framing::kLength) {
    data = data.substr(0, std::min<uint64_t>(left_, data.size()));
    left_ -= data.size();
    done = left_ == 0;
  }
  if (!data.empty()) handlers_.on_body(data);
  if (done && !over_) end({});
}

void ClientStream::end(const std::string& fault) {
  const Handlers handlers = std::move(handlers_);  // they may drop the last other owner
  const auto self = shared_from_this();
  close();
  handlers.on_end(fault);
}

void ClientStream::close() {
  over_ = true;
  SystemError ignored;
  if (transport_) {
    transport_->close();
  } else {
    socket_.close(ignored);
  }
}

ClientAnswer fetch(const Endpoint& endpoint, std::string request, const std::string& place) {
  asio::io_context io(1);
  std::vector<char> scratch(16 << 10);
  ClientAnswer answer;
  std::string fault;
  std::make_shared<ClientStream>(io, scratch)
      ->start(endpoint, std::move(request),
              {.on_head = [&](int status) { answer.status = status; },
               .on_body = [&](std::string_view bytes) { answer.body += bytes; },
               .on_end = [&](const std::string& text) { fault = text; }});
  io.run();
  if (!fault.empty()) throw Error(ErrorCode::kIo, fault, place);
  return answer;
}

}  // namespace facet::http
