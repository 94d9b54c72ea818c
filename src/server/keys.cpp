#include "server/keys.h"

#include <algorithm>
#include <charconv>
#include <fmt/core.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "server/fields.h"

namespace facet {
namespace {

constexpr size_t kLeastKeyBytes = 32;
constexpr size_t kMostKeyBytes = 512;
constexpr int64_t kMostFileBytes = 1 << 20;
constexpr int32_t kMostFailures = 20;
constexpr auto kFailureWindow = std::chrono::minutes(1);
constexpr size_t kMostAddresses = 65536;

/// A credential that systemd hands to a service may be a file of root's which an access list opens
/// to the service alone; the mask of such a list shows as a right of the group.
bool only_the_owner_reads(const struct stat& file) {
  const mode_t others = file.st_mode & 077U;
  return others == 0 || (others == 040U && file.st_uid == 0 && file.st_gid == 0);
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return words;
    const size_t end = std::min(line.find_first_of(" \t\r", begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    line.remove_prefix(end);
  }
}

bool printable_key(std::string_view key) {
  return std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

/// Takes a word behind a key; false if it is none of those that may stand there.
bool take_word(std::string_view word, Caller& caller) {
  if (word == "admin") {
    caller.role = KeyRole::kAdmin;
    return true;
  }
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view name = word.substr(0, equals);
  const std::string_view text = word.substr(equals + 1);
  int32_t value = -1;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size() || value < 0) return false;
  if (name == "per-minute") {
    caller.per_minute = value;
  } else if (name == "concurrent") {
    caller.concurrent = value;
  } else {
    return false;
  }
  return true;
}

/// The key of an Authorization field; empty if it has another form.
std::string_view bearer(std::string_view value) {
  constexpr std::string_view kScheme = "bearer ";
  if (value.size() < kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    const char c = value[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != kScheme[i]) return {};
  }
  value.remove_prefix(kScheme.size());
  const size_t begin = value.find_first_not_of(' ');
  return begin == std::string_view::npos ? std::string_view() : value.substr(begin);
}

}  // namespace

KeyRing::Digest KeyRing::digest_of(std::string_view key) {
  Digest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

KeyRing KeyRing::load(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0)
    throw Error(ErrorCode::kUnsafeSettings, "there is no such key file", path);
  if (!only_the_owner_reads(found)) {
    throw Error(
        ErrorCode::kUnsafeSettings,
        fmt::format("mode {:04o} lets others read the keys, wanted 0600", found.st_mode & 07777U),
        path);
  }
  return parse(read_file(path, kMostFileBytes), path);
}

KeyRing KeyRing::parse(std::string_view text, const std::string& path) {
  KeyRing ring;
  int32_t number = 0;
  const auto fail = [&](std::string message) {
    throw Error(ErrorCode::kUnsafeSettings, std::move(message),
                fmt::format("{} line {}", path, number));
  };
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::vector<std::string_view> words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (words.empty() || words.front().front() == '#') continue;
    const std::string_view key = words.size() == 1 ? words[0] : words[1];
    Caller caller;
    caller.tenant =
        words.size() == 1 ? fmt::format("key{}", ring.keys_.size() + 1) : std::string(words[0]);
    for (size_t i = 2; i < words.size(); ++i) {
      if (!take_word(words[i], caller)) {
        fail(fmt::format("found {} behind the key, wanted admin, per-minute=N or concurrent=N",
                         printable(words[i], 40)));
      }
    }
    if (!is_plain_name(caller.tenant)) fail("a name is 1 to 64 of A-Z, a-z, 0-9, _ and -");
    if (key.size() < kLeastKeyBytes || key.size() > kMostKeyBytes || !printable_key(key)) {
      fail(fmt::format("a key of {} characters, wanted {} to {} printable ones without blanks",
                       key.size(), kLeastKeyBytes, kMostKeyBytes));
    }
    const Digest digest = digest_of(key);
    for (const Key& other : ring.keys_) {
      if (other.caller.tenant == caller.tenant || other.digest == digest)
        fail("this name or key is there twice");
    }
    ring.keys_.push_back({std::move(caller), digest});
  }
  if (ring.empty()) throw Error(ErrorCode::kUnsafeSettings, "holds no key", path);
  return ring;
}

std::optional<Caller> KeyRing::caller(const http::RequestHead& head) const {
  if (keys_.empty()) {
    Caller anyone;
    anyone.role = KeyRole::kAdmin;
    return anyone;
  }
  const std::string* authorization = head.field("authorization");
  const std::string* plain = head.field("x-api-key");
  const bool repeated = head.count("authorization") > 1 || head.count("x-api-key") > 1;
  std::string_view key;
  if (authorization != nullptr) key = bearer(*authorization);
  if (plain != nullptr && authorization == nullptr) key = *plain;
  // A key too long is looked for all the same, so that it takes the same time as any other.
  const Digest digest = digest_of(key.substr(0, kMostKeyBytes));
  const Digest other = digest_of(plain != nullptr ? std::string_view(*plain) : key);
  const bool agree = CRYPTO_memcmp(digest.data(), other.data(), digest.size()) == 0;
  const Key* found = nullptr;
  for (const Key& one : keys_) {
    if (CRYPTO_memcmp(one.digest.data(), digest.data(), digest.size()) == 0) found = &one;
  }
  const bool fits = key.size() <= kMostKeyBytes && !repeated && agree;
  if (found == nullptr || !fits) return std::nullopt;
  return found->caller;
}

bool FailureLimit::allow(const std::string& address, Clock::time_point now) {
  if (windows_.size() >= kMostAddresses) {
    std::erase_if(windows_,
                  [&](const auto& one) { return now - one.second.begin > kFailureWindow; });
    if (windows_.size() >= kMostAddresses) windows_.clear();
  }
  Window& window = windows_[address];
  if (now - window.begin > kFailureWindow) window = {now, 0};
  return ++window.failures <= kMostFailures;
}

}  // namespace facet
