#pragma once

#include <boost/json/basic_parser_impl.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace facet {

constexpr size_t kMaxJsonDepth = 64;

/// What is wrong with a JSON text.
enum class JsonFault {
  kSyntax,  ///< and whatever else a handler refuses
  kTooDeep,
  kDuplicateKey,
  kTooLarge,  ///< too many keys or elements
};

/// A text that is refused, and the kind of reason.
class JsonError : public Error {
 public:
  JsonError(ErrorCode code, std::string message, JsonFault fault)
      : Error(code, std::move(message)), fault_(fault) {}
  JsonFault fault() const { return fault_; }

 private:
  JsonFault fault_;
};

/// What the handlers of boost::json::basic_parser share: no limits on sizes (texts are bounded
/// before they are parsed), and a refusal that keeps its own words.
class JsonSax {
 public:
  using Code = boost::json::error_code;
  using Text = boost::json::string_view;

  // NOLINTBEGIN(readability-identifier-naming): Boost.JSON looks these up by name.
  static constexpr size_t max_object_size = SIZE_MAX;
  static constexpr size_t max_array_size = SIZE_MAX;
  static constexpr size_t max_key_size = SIZE_MAX;
  static constexpr size_t max_string_size = SIZE_MAX;
  // NOLINTEND(readability-identifier-naming)

  bool on_document_begin(Code& /*code*/) { return true; }
  bool on_document_end(Code& /*code*/) { return true; }
  bool on_comment_part(Text /*text*/, Code& /*code*/) { return true; }
  bool on_comment(Text /*text*/, Code& /*code*/) { return true; }

  /// Why the handler stopped the parser; empty if it did not.
  const std::string& refusal() const { return refusal_; }
  JsonFault fault() const { return fault_; }

 protected:
  bool refuse(Code& code, std::string why, JsonFault fault = JsonFault::kSyntax) {
    refusal_ = std::move(why);
    fault_ = fault;
    code = boost::json::error::syntax;
    return false;
  }

 private:
  std::string refusal_;
  JsonFault fault_ = JsonFault::kSyntax;
};

/// Throws JsonError{error} for a text that a parser left at byte `at`: the handler's refusal if
/// there is one, ill-formed UTF-8 if that is the cause, else what `code` says. The message ends in
/// the byte.
[[noreturn]] void throw_json_error(ErrorCode error,
                                   std::string_view text,
                                   size_t at,
                                   const JsonSax& handler,
                                   const boost::json::error_code& code);

/// Feeds one whole JSON document to a `Handler` made of `arguments` and returns what its release()
/// gives: strict UTF-8, depth at most kMaxJsonDepth, nothing after the end. Throws JsonError{error}
/// as throw_json_error does.
template <typename Handler, typename... Arguments>
auto run_json_parser(std::string_view text, ErrorCode error, const Arguments&... arguments) {
  boost::json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  boost::json::basic_parser<Handler> parser(options, arguments...);
  boost::json::error_code code;
  const size_t used = parser.write_some(false, text.data(), text.size(), code);
  if (code || used < text.size()) throw_json_error(error, text, used, parser.handler(), code);
  return parser.handler().release();
}

}  // namespace facet
