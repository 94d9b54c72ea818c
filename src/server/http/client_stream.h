#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/chunk_decoder.h"
#include "server/http/client.h"
#include "server/http/transport.h"

namespace facet::http {

using Endpoint = boost::asio::generic::stream_protocol::endpoint;

/// An address of the url's host that takes connections now; waits for the answer. Throws Error{kIo}
/// naming the server.
Endpoint reachable_endpoint(const Url& url);
/// The same for a Unix socket. Throws Error{kIo} naming the path.
Endpoint reachable_endpoint(const std::string& unix_socket);

/// The bytes of a request over a connection that serves no other.
std::string request_bytes(const Url& url, const ClientRequest& request);

/// One request and its answer, without waiting: thousands may share a thread. Plain connections
/// only.
class ClientStream : public std::enable_shared_from_this<ClientStream> {
 public:
  struct Handlers {
    std::function<void(int status)> on_head;
    std::function<void(std::string_view bytes)> on_body;  ///< without chunks' framing, in pieces
    /// Once, last. An empty `fault`: the whole answer has come.
    std::function<void(const std::string& fault)> on_end;
  };

  /// `scratch` is read into, and shared by all streams of the thread that runs `io`.
  ClientStream(boost::asio::io_context& io, std::vector<char>& scratch);

  /// Called once.
  void start(const Endpoint& endpoint, std::string request, Handlers handlers);
  /// Closes the connection; no handler is called any more.
  void close();

 private:
  enum class Framing { kLength, kChunked, kToTheEnd };

  void write_some();
  void read_some();
  void take(std::string_view data);
  bool take_head();
  void take_body(std::string_view data);
  void end(const std::string& fault);

  Socket socket_;  // until it is connected
  std::vector<char>& scratch_;
  std::unique_ptr<Transport> transport_;
  Handlers handlers_;
  std::string out_;
  size_t sent_ = 0;
  std::string head_;
  bool head_done_ = false;
  bool over_ = false;
  Framing framing_ = Framing::kToTheEnd;
  uint64_t left_ = 0;  // of a body of known length
  ChunkDecoder chunks_;
  std::string body_;  // decoded, of the bytes that came last
};

/// One request and its whole answer, waiting for it. Throws Error{kIo} at `place`.
ClientAnswer fetch(const Endpoint& endpoint, std::string request, const std::string& place);

}  // namespace facet::http
