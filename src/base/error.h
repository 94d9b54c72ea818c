#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace facet {

/// Why a load or a request cannot go on. cli/exit_code.h maps these to exit codes, the server to
/// HTTP.
enum class ErrorCode {
  kUsage,           ///< an option or argument is wrong
  kBadInput,        ///< text, ids or JSON given by the user is wrong
  kBadCheckpoint,   ///< a file of the checkpoint is missing, damaged or not supported
  kDevice,          ///< the wanted device is missing or too old
  kOutOfMemory,     ///< what was asked for does not fit
  kIo,              ///< the system refused to read or write
  kUnsafeSettings,  ///< the settings would expose the user
  kInternal,        ///< a fault of the engine that stops one load or request only
};

/// The one exception of the tree. `place` names where it happened, outermost first
/// ("model.safetensors: layer 3"); what() is "place: message" or, without a place, the message.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string message, std::string place = {});

  ErrorCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& place() const noexcept { return place_; }

  /// The same failure, with `outer` put in front of its place.
  Error in(std::string_view outer) const;

 private:
  ErrorCode code_;
  std::string message_;
  std::string place_;
};

/// Runs `body`; an Error that leaves it gets `place` put in front of its own place.
template <typename Body>
decltype(auto) in_place(std::string_view place, Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw error.in(place);
  }
}

}  // namespace facet
