#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/http/message.h"

namespace facet {

/// What a caller may do.
enum class KeyRole { kUser, kAdmin };

struct Caller {
  KeyRole role = KeyRole::kUser;
  std::string tenant;  ///< the name of the key; empty without keys
  // Of the key's line; nothing: as the server's settings say.
  std::optional<int32_t> per_minute;  ///< requests; 0: any number
  std::optional<int32_t> concurrent;  ///< requests at the same time; 0: any number
};

/// The keys that open the server. Only their SHA-256 digests are kept.
class KeyRing {
 public:
  /// No keys: every caller is let in.
  KeyRing() = default;

  /// Reads a key file: one key a line, "KEY", or "NAME KEY" and behind it any of "admin",
  /// "per-minute=N" and "concurrent=N"; blank lines and those that begin with # do not count.
  /// Throws Error{kUnsafeSettings} naming the file, and the line, if it may be read by others than
  /// its owner (or root's group), a key has under 32 or over 512 characters, a name or key is there
  /// twice, a limit is no number, or there is none; Error{kIo} if it cannot be read.
  static KeyRing load(const std::string& path);
  /// The same from text.
  static KeyRing parse(std::string_view text, const std::string& path);

  bool empty() const { return keys_.empty(); }
  size_t size() const { return keys_.size(); }

  /// Who sends these fields (Authorization: Bearer, x-api-key); nothing if no key fits, or two
  /// different ones are there. Looks at every key whatever it finds.
  std::optional<Caller> caller(const http::RequestHead& head) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    Caller caller;
    Digest digest;
  };
  static Digest digest_of(std::string_view key);

  std::vector<Key> keys_;
};

/// Counts failures per address: over 20 in a minute, further ones are refused (C-23).
class FailureLimit {
 public:
  using Clock = std::chrono::steady_clock;

  /// Notes a failure; false if there have been too many.
  bool allow(const std::string& address, Clock::time_point now);

 private:
  struct Window {
    Clock::time_point begin;
    int32_t failures = 0;
  };
  std::unordered_map<std::string, Window> windows_;
};

}  // namespace facet
