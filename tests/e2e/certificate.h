#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "tests/e2e/server.h"

namespace facet::test {

/// A private key and a certificate of it that it signed itself, for "localhost"; both PEM.
struct Certificate {
  std::string certificate;
  std::string key;
  std::string locked_key;  ///< the key under a passphrase
};
Certificate make_certificate();

/// A TLS connection to a port of this machine, which trusts `certificate` alone.
class TlsWire {
 public:
  TlsWire(int port, const std::string& certificate);
  ~TlsWire();
  TlsWire(const TlsWire&) = delete;
  TlsWire& operator=(const TlsWire&) = delete;

  /// Did the handshake succeed, and did the certificate fit?
  bool trusted() const { return trusted_; }
  void send(std::string_view bytes);
  /// All that comes until the server ends the connection.
  std::string read_all();
  /// Was the end of read_all() TLS's own farewell, not a cut?
  bool ended_properly() const { return ended_properly_; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  bool trusted_ = false;
  bool ended_properly_ = false;
};

}  // namespace facet::test
