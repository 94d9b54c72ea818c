// Bytes of a connection, as a peer may send them in any pieces: heads and bodies, requests one
// after another. Reading must end in a request, a fault or the wish for more, the same however the
// bytes are cut.

#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/head_scanner.h"
#include "server/http/request_parser.h"

namespace {

using facet::http::Fault;
using facet::http::HeadScanner;
using facet::http::Limits;
using facet::http::RequestParser;

constexpr uint64_t kBodyLimit = 4096;
const Limits kLimits;

/// Reads as a connection does and notes what came of it.
class Reader {
 public:
  void give(std::string_view bytes) {
    in_ += bytes;
    while (!over_ && (parser_ ? read_body() : read_head())) {
    }
  }
  std::string noted;

 private:
  bool end(std::string_view why, Fault fault) {
    noted += fmt::format("{} {};", why, static_cast<int>(fault));
    over_ = true;
    return false;
  }

  bool read_head() {
    if (in_.empty()) return false;
    if (!scanner_) scanner_ = std::make_unique<HeadScanner>(kLimits);
    const size_t length = scanner_->scan(in_);
    if (length == 0) return scanner_->fault() && end("head", *scanner_->fault());
    scanner_.reset();
    parser_ = std::make_unique<RequestParser>(kLimits);
    const bool sound = parser_->read_head(std::string_view(in_).substr(0, length));
    in_.erase(0, length);
    // Asked of every head, sound or not.
    noted += fmt::format("{} {} {} {};", parser_->keep_alive(), parser_->expects_continue(),
                         parser_->is_http_1_0(), parser_->content_length().value_or(0));
    if (!sound) return end("head", *parser_->fault());
    noted += parser_->head().method + " " + parser_->head().path + ";";
    finish_if_done();
    return true;
  }

  bool read_body() {
    if (in_.empty()) return false;
    const size_t used = parser_->read_body(in_, kBodyLimit);
    if (used > in_.size()) std::abort();
    in_.erase(0, used);
    if (parser_->fault()) return end("body", *parser_->fault());
    return finish_if_done();
  }

  bool finish_if_done() {
    if (!parser_->done()) return false;
    if (parser_->body().size() > kBodyLimit) std::abort();
    noted += parser_->body() + ";";
    parser_.reset();
    return true;
  }

  std::string in_;
  std::unique_ptr<HeadScanner> scanner_;
  std::unique_ptr<RequestParser> parser_;
  bool over_ = false;
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Reader whole;
  whole.give(bytes);
  Reader parts;
  const size_t piece = 1 + data[0] % 16;
  for (size_t at = 0; at < bytes.size(); at += piece) parts.give(bytes.substr(at, piece));
  // A fault within a body may be seen before or behind what came with it.
  if (whole.noted != parts.noted) {
    fmt::print(stderr, "whole: {}\nparts: {}\n", whole.noted, parts.noted);
    std::abort();
  }
  return 0;
}
