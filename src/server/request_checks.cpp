#include "server/request_checks.h"

#include <algorithm>
#include <fmt/core.h>

#include "base/text.h"
#include "server/api_error.h"

namespace facet {
namespace {

/// "name:8000" and "[::1]:8000" without the port.
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.find(']') + 1, host.size()));
  return host.substr(0, host.find(':'));
}

bool is_loopback_name(std::string_view name) {
  if (name == "localhost" || name == "[::1]") return true;
  // 127.x.x.x: digits and dots only, so that 127.evil.example is none.
  return name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string::npos;
}

bool contains(const std::vector<std::string>& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

/// "https://name:8000", sent to name:8000. Not the scheme: a proxy may do TLS.
bool is_own_origin(const http::RequestHead& head, std::string_view origin) {
  const std::string* host = head.field("host");
  const size_t scheme = origin.starts_with("http://")    ? 7
                        : origin.starts_with("https://") ? 8
                                                         : origin.size();
  return host != nullptr && !host->empty() &&
         ascii_lower(origin.substr(scheme)) == ascii_lower(*host);
}

}  // namespace

void check_host(std::string_view host, const std::vector<std::string>& allowed) {
  const std::string name = ascii_lower(without_port(host));
  if (is_loopback_name(name) || contains(allowed, name) || contains(allowed, ascii_lower(host)))
    return;
  throw ApiError(
      ApiCode::kHostNotAllowed,
      fmt::format("The host \"{}\" is not allowed; --allow-host adds names.", printable(host, 80)));
}

void check_origin(const http::RequestHead& head,
                  const std::vector<std::string>& allowed,
                  HostTrust trust) {
  const std::string* origin = head.field("origin");
  if (origin == nullptr || contains(allowed, *origin)) return;
  if (trust == HostTrust::kYes && is_own_origin(head, *origin)) return;
  throw ApiError(ApiCode::kOriginNotAllowed,
                 fmt::format("Web pages of \"{}\" are not allowed; --allow-origin adds them.",
                             printable(*origin, 80)));
}

void check_encoding(const http::RequestHead& head) {
  const std::string* encoding = head.field("content-encoding");
  if (encoding == nullptr || ascii_lower(*encoding) == "identity") return;
  throw ApiError(ApiCode::kUnsupportedEncoding,
                 fmt::format("Content-Encoding: found {}, wanted none.", printable(*encoding, 40)));
}

void check_content_type(const http::RequestHead& head) {
  const std::string* type = head.field("content-type");
  std::string found = type != nullptr ? ascii_lower(*type) : std::string();
  found.resize(std::min(found.find(';'), found.size()));
  while (found.ends_with(' ')) found.pop_back();
  if (found == "application/json" || found.ends_with("+json")) return;
  throw ApiError(ApiCode::kUnsupportedMediaType,
                 fmt::format("Content-Type: found {}, wanted application/json.",
                             found.empty() ? "none" : printable(found, 60)));
}

}  // namespace facet
