#include "server/http/resolve.h"

#include <array>
#include <boost/asio/io_context.hpp>
#include <charconv>
#include <cstdint>

namespace facet::http {

using Tcp = boost::asio::ip::tcp;
namespace ip = boost::asio::ip;

Addresses resolve(const std::string& host, const std::string& port, SystemError& error) {
  boost::asio::io_context io;
  Tcp::resolver resolver(io);
  Addresses found = resolver.resolve(host, port, Tcp::resolver::numeric_service, error);
  return known_addresses(std::move(found), host, port, error);
}

Addresses known_addresses(Addresses found,
                          const std::string& host,
                          const std::string& port,
                          SystemError& error) {
  if (!error || host != "localhost") return found;
  uint16_t number = 0;
  const auto [end, fault] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (fault != std::errc() || end != port.data() + port.size()) return found;
  error = {};
  const std::array endpoints = {Tcp::endpoint(ip::address_v4::loopback(), number),
                                Tcp::endpoint(ip::address_v6::loopback(), number)};
  return Addresses::create(endpoints.begin(), endpoints.end(), host, port);
}

}  // namespace facet::http
