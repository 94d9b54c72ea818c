#pragma once

#include <string>
#include <string_view>

namespace facet::cli {

/// A message typed at the chat prompt, put together from lines. Between two `"""` line ends belong
/// to the message; a `"""` may stand anywhere on a line, and more than once. A line break beside a
/// `"""` that stands alone is not part of the message.
class MessageLines {
 public:
  /// Adds a line without its end. True if the message is whole: no `"""` is open.
  bool add(std::string_view line);

  /// Everything but the `"""`.
  const std::string& text() const { return text_; }
  /// Does it begin with a `/` that stands outside of `"""`?
  bool is_command() const { return is_command_; }

 private:
  std::string text_;
  bool is_command_ = false;
  bool begun_ = false;
  bool open_ = false;         // after a """ that has no partner yet
  bool just_opened_ = false;  // it stood alone on the last line
};

}  // namespace facet::cli
