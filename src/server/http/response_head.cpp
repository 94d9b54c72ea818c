#include "server/http/response_head.h"

#include <algorithm>
#include <boost/beast/http/status.hpp>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/core.h>
#include <iterator>

namespace facet::http {

std::string content_length_field(size_t bytes) {
  return fmt::format("Content-Length: {}\r\n", bytes);
}

std::string response_head(const Response& response,
                          std::string_view framing,
                          std::string_view connection) {
  namespace beast = boost::beast::http;
  const auto reason = beast::obsolete_reason(static_cast<beast::status>(response.status));
  std::string out;
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "HTTP/1.1 {} {}\r\n", response.status,
                 std::string_view(reason.data(), reason.size()));
  fmt::format_to(to, "Date: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", fmt::gmtime(std::time(nullptr)));
  fmt::format_to(to, "Content-Type: {}\r\n", response.content_type);
  out += framing;
  out += "X-Content-Type-Options: nosniff\r\n";
  const bool says_caching =
      std::any_of(response.fields.begin(), response.fields.end(),
                  [](const Field& field) { return field.name == "Cache-Control"; });
  if (!says_caching) out += "Cache-Control: no-store\r\n";
  if (!connection.empty()) fmt::format_to(to, "Connection: {}\r\n", connection);
  for (const Field& field : response.fields)
    fmt::format_to(to, "{}: {}\r\n", field.name, field.value);
  out += "\r\n";
  return out;
}

void append_chunk(std::string& out, std::string_view data, Framing framing) {
  if (framing == Framing::kChunked)
    fmt::format_to(std::back_inserter(out), "{:x}\r\n", data.size());
  out += data;
  if (framing == Framing::kChunked) out += "\r\n";
}

}  // namespace facet::http
