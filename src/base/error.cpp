#include "base/error.h"

#include <utility>

namespace facet {
namespace {

std::string joined(const std::string& place, const std::string& message) {
  return place.empty() ? message : place + ": " + message;
}

}  // namespace

Error::Error(ErrorCode code, std::string message, std::string place)
    : std::runtime_error(joined(place, message)),
      code_(code),
      message_(std::move(message)),
      place_(std::move(place)) {}

Error Error::in(std::string_view outer) const {
  std::string place(outer);
  if (!place_.empty()) place += ": " + place_;
  return Error(code_, message_, std::move(place));
}

}  // namespace facet
