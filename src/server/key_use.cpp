#include "server/key_use.h"

#include <algorithm>
#include <cmath>
#include <fmt/core.h>

#include "server/api_error.h"

namespace facet {
namespace {

constexpr int32_t kLongestWait = 60;  // seconds, in Retry-After

[[noreturn]] void refuse(std::string message, int32_t seconds) {
  ApiError error(ApiCode::kRateLimitExceeded, std::move(message));
  error.set_retry_after(seconds);
  throw error;
}

}  // namespace

int32_t KeyUse::per_minute(const Caller& caller) const {
  return caller.tenant.empty() ? 0 : caller.per_minute.value_or(limits_.per_minute);
}

int32_t KeyUse::concurrent(const Caller& caller) const {
  return caller.tenant.empty() ? 0 : caller.concurrent.value_or(limits_.concurrent);
}

KeyUse::Use& KeyUse::use_of(const Caller& caller, Clock::time_point now) {
  Use& use = uses_[caller.tenant];
  const double most = per_minute(caller);
  const double minutes = std::chrono::duration<double, std::ratio<60>>(now - use.when).count();
  use.left = use.known ? std::min(most, use.left + most * minutes) : most;
  use.known = true;
  use.when = now;
  return use;
}

void KeyUse::check(const Caller& caller, Clock::time_point now) {
  const Use& use = use_of(caller, now);
  const int32_t most = per_minute(caller);
  if (most > 0 && use.left < 1) {
    const double seconds = (1 - use.left) * 60 / most;
    refuse(fmt::format("This key may send {} requests a minute; try again later.", most),
           std::clamp(static_cast<int32_t>(std::ceil(seconds - 1e-6)), 1, kLongestWait));
  }
  const int32_t at_once = concurrent(caller);
  if (at_once > 0 && use.running >= at_once) {
    refuse(fmt::format("This key may have {} requests at the same time; try again when one ends.",
                       at_once),
           1);
  }
}

std::shared_ptr<const void> KeyUse::take(const Caller& caller, Clock::time_point now) {
  check(caller, now);
  Use& use = use_of(caller, now);
  if (per_minute(caller) > 0) use.left -= 1;
  ++use.running;
  // Shared, because callbacks that hold it must be copyable.
  return {&use, [&use](const void* /*same*/) { --use.running; }};
}

}  // namespace facet
