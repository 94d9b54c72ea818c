#pragma once

#include <string>
#include <string_view>

#include "server/http/message.h"

namespace facet::http {

inline constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
inline constexpr std::string_view kChunkedField = "Transfer-Encoding: chunked\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

std::string content_length_field(size_t bytes);

/// Status line and fields with the empty line behind them. `framing` is the field that says where
/// the body ends (or nothing), `connection` the value of Connection (or nothing). Fields of the
/// response win over the defaults (Cache-Control: no-store).
std::string response_head(const Response& response,
                          std::string_view framing,
                          std::string_view connection);

enum class Framing { kNone, kChunked };

/// Appends a piece of a streamed body.
void append_chunk(std::string& out, std::string_view data, Framing framing);

}  // namespace facet::http
