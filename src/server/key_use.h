#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "server/keys.h"

namespace facet {

/// What each key asks for, against its limits (C-81). On the loop's thread, what take() returns
/// too. Must outlive all of that.
class KeyUse {
 public:
  using Clock = std::chrono::steady_clock;

  /// Limits of keys whose line names none; 0: none. `per_minute` is an average: a key that rested
  /// for a minute may use all of it at once.
  struct Limits {
    int32_t per_minute = 0;
    int32_t concurrent = 0;
  };

  explicit KeyUse(Limits limits) : limits_(limits) {}

  /// Throws ApiError{kRateLimitExceeded}, which says when to try again, if take() would.
  void check(const Caller& caller, Clock::time_point now);
  /// Counts a request, which runs until the result goes. Throws as check() does; what is refused
  /// does not count.
  std::shared_ptr<const void> take(const Caller& caller, Clock::time_point now);

 private:
  struct Use {
    int32_t running = 0;
    double left = 0;  // requests that are free at `when`
    Clock::time_point when;
    bool known = false;
  };
  /// Refilled up to `now`.
  Use& use_of(const Caller& caller, Clock::time_point now);
  int32_t per_minute(const Caller& caller) const;
  int32_t concurrent(const Caller& caller) const;

  const Limits limits_;
  std::unordered_map<std::string, Use> uses_;  // by the key's name; its values stay where they are
};

}  // namespace facet
