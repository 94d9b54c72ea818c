#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/http/limits.h"
#include "server/http/loop.h"
#include "server/http/message.h"

namespace facet::http {

struct ListenOptions {
  std::string host = "127.0.0.1";  ///< a name or an address
  uint16_t port = 8000;            ///< 0: any free one
  std::string unix_socket;         ///< a path; if given, host and port count for nothing
  std::string tls_certificate;     ///< PEM chain; empty: no TLS
  std::string tls_key;             ///< PEM
  Limits limits;
};

/// Is `host` (a name or address) reachable from this machine alone? Throws Error{kUsage} for a name
/// that means nothing.
bool is_loopback(const std::string& host);

/// An open port and its connections. From construction on peers can connect; what they send is read
/// once the loop runs. To be destroyed only when the loop has stopped or was never started.
class Listener {
 public:
  /// Throws Error{kUsage} for a host that means nothing and a port that cannot be had,
  /// Error{kUnsafeSettings} for a certificate or key that cannot be used.
  Listener(Loop& loop, Handler& handler, const ListenOptions& options);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  /// "http://127.0.0.1:8000", or the path of the socket.
  const std::string& url() const;
  /// On the loop's thread: each answer closes its connection from now on.
  void drain();
  /// On the loop's thread: connections with a request that is not wholly answered.
  int64_t busy_connections() const;
  int64_t connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet::http
