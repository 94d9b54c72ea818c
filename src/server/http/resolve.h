#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>

#include "server/http/transport.h"

namespace facet::http {

using Addresses = boost::asio::ip::tcp::resolver::results_type;

/// The addresses of a name or of an address in digits; `port` in digits.
Addresses resolve(const std::string& host, const std::string& port, SystemError& error);

/// What a resolver `found`, or, where it failed over "localhost", this machine's own addresses and
/// no error: a root without /etc/hosts does not know that name, yet it can mean nothing else
/// (RFC 6761, 6.3).
Addresses known_addresses(Addresses found,
                          const std::string& host,
                          const std::string& port,
                          SystemError& error);

}  // namespace facet::http
