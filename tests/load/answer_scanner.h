#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet::test {

/// Follows one HTTP answer as it arrives and keeps next to nothing of it, so that there can be tens
/// of thousands at a time.
class AnswerScanner {
 public:
  /// Takes bytes up to the end of the answer; returns how many those were.
  size_t take(std::string_view bytes);

  /// All of the answer has come.
  bool done() const { return state_ == State::kDone; }
  /// Of the status line; 0 until the head is there.
  int status() const { return status_; }
  /// Events of a stream so far, comments included.
  int64_t events() const { return events_; }
  /// Is [DONE] the last of them?
  bool said_done() const { return tail_ == kDone; }
  /// Says "Connection: close".
  bool closes() const { return closes_; }

 private:
  enum class State { kHead, kBody, kSize, kChunk, kChunkEnd, kDone };
  static constexpr std::string_view kDone = "data: [DONE]\n\n";

  size_t take_head(std::string_view bytes);
  void read_head();
  size_t take_size(std::string_view bytes);
  void count(std::string_view body);

  State state_ = State::kHead;
  std::string line_;  // the head, or the line of a chunk's size
  int64_t left_ = 0;  // of the body, or the chunk; of the line end behind it
  std::string tail_;  // of the body, as long as kDone
  int64_t events_ = 0;
  int status_ = 0;
  bool last_chunk_ = false;
  bool closes_ = false;
};

}  // namespace facet::test
