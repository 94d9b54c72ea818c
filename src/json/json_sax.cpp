#include "json/json_sax.h"

#include <fmt/core.h>

#include "base/text.h"

namespace facet {

void throw_json_error(ErrorCode error,
                      std::string_view text,
                      size_t at,
                      const JsonSax& handler,
                      const boost::json::error_code& code) {
  const auto fail = [error](std::string_view what, size_t byte,
                            JsonFault fault = JsonFault::kSyntax) {
    throw JsonError(error, fmt::format("{} (byte {})", what, byte), fault);
  };
  if (!handler.refusal().empty()) fail(handler.refusal(), at, handler.fault());
  // The parser calls ill-formed UTF-8 a syntax error, a few bytes away at most.
  for (size_t i = 0; i < text.size() && i < at + 4;) {
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) fail("ill-formed UTF-8", i);
    i += length;
  }
  if (!code) fail("text after the end of the JSON document", at);
  if (code == boost::json::error::too_deep)
    fail(fmt::format("JSON nested more than {} deep", kMaxJsonDepth), at, JsonFault::kTooDeep);
  if (code == boost::json::error::incomplete) fail("the JSON text is cut off", at);
  throw JsonError(error, fmt::format("not JSON: {} (byte {})", code.message(), at),
                  JsonFault::kSyntax);
}

}  // namespace facet
