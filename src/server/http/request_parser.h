#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/limits.h"
#include "server/http/message.h"

namespace facet::http {

/// Reads one request: Boost.Beast's parser for the head, and what it lets pass that we do not (C-05
/// to C-07).
class RequestParser {
 public:
  explicit RequestParser(const Limits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  /// `head` is a whole head, as HeadScanner found it. false: see fault().
  bool read_head(std::string_view head);
  /// Bytes of the body; returns how many were taken. The rest is to be given again, with more.
  /// Over `limit` bytes is a fault.
  size_t read_body(std::string_view data, uint64_t limit);
  /// Has the request come to its end?
  bool done() const;
  const std::optional<Fault>& fault() const { return fault_; }

  RequestHead& head();
  std::string& body();
  bool keep_alive() const;
  bool is_http_1_0() const;
  bool expects_continue() const;
  /// Bytes of the body that the head announces; nothing for a chunked one, 0 before read_head().
  std::optional<uint64_t> content_length() const;

 private:
  struct Impl;
  bool check_fields();

  std::unique_ptr<Impl> impl_;
  std::optional<Fault> fault_;
};

}  // namespace facet::http
