#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace facet::http {

/// "http://host:port/prefix" or "https://…". Throws Error{kUsage} for anything else.
struct Url {
  bool tls = false;
  std::string host;    ///< a name or an address, without the brackets of IPv6
  std::string port;    ///< "80" or "443" if not given
  std::string prefix;  ///< path without a trailing slash, often empty

  static Url parse(std::string_view text);
  /// As it stands in the Host header.
  std::string authority() const;
};

struct ClientRequest {
  std::string method = "GET";
  std::string path;  ///< behind the prefix
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

struct ClientAnswer {
  int status = 0;  ///< 0: given up by keep_going before the head came
  std::string content_type;
  std::string body;  ///< empty if on_body took it
};

/// Called with the bytes of a body with status 200 as they come; else it is kept.
using OnBody = std::function<void(std::string_view bytes)>;
/// Asked twenty times a second; false gives the request up, which closes the connection.
using KeepGoing = std::function<bool()>;

/// One request over a connection of its own. Both functions may be empty. https verifies the
/// server against the system's certificates. Throws Error{kIo} naming the server if it cannot be
/// reached, or breaks off; whatever on_body throws.
ClientAnswer send(const Url& url,
                  const ClientRequest& request,
                  const OnBody& on_body,
                  const KeepGoing& keep_going);

}  // namespace facet::http
