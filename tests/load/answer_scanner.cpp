#include "tests/load/answer_scanner.h"

#include <algorithm>
#include <charconv>

namespace facet::test {
namespace {

constexpr int64_t kLineEnd = 2;

int64_t number(std::string_view digits, int base) {
  int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  return value;
}

}  // namespace

size_t AnswerScanner::take(std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size() && state_ != State::kDone) {
    const std::string_view rest = bytes.substr(used);
    if (state_ == State::kHead) {
      used += take_head(rest);
    } else if (state_ == State::kSize) {
      used += take_size(rest);
    } else {
      const size_t some = std::min(rest.size(), static_cast<size_t>(left_));
      if (state_ != State::kChunkEnd) count(rest.substr(0, some));
      used += some;
      left_ -= static_cast<int64_t>(some);
      if (left_ > 0) break;
      if (state_ == State::kBody || last_chunk_) {
        state_ = State::kDone;
      } else if (state_ == State::kChunk) {
        state_ = State::kChunkEnd;
        left_ = kLineEnd;
      } else {
        state_ = State::kSize;
      }
    }
  }
  return used;
}

size_t AnswerScanner::take_head(std::string_view bytes) {
  const size_t before = line_.size();
  line_ += bytes;
  const size_t end = line_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
  if (end == std::string::npos) return bytes.size();
  line_.resize(end + 4);
  read_head();
  const size_t used = line_.size() - before;
  std::string().swap(line_);
  return used;
}

void AnswerScanner::read_head() {
  status_ = static_cast<int>(number(std::string_view(line_).substr(9, 3), 10));
  closes_ = line_.find("\r\nConnection: close\r\n") != std::string::npos;
  if (line_.find("\r\nTransfer-Encoding: chunked\r\n") != std::string::npos) {
    state_ = State::kSize;
    return;
  }
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  const size_t at = line_.find(kLength);
  if (at != std::string::npos)
    left_ = number(std::string_view(line_).substr(at + kLength.size()), 10);
  state_ = left_ > 0 ? State::kBody : State::kDone;
}

size_t AnswerScanner::take_size(std::string_view bytes) {
  const size_t end = bytes.find('\n');
  const size_t used = end == std::string_view::npos ? bytes.size() : end + 1;
  line_ += bytes.substr(0, used);
  if (end == std::string_view::npos) return used;
  left_ = number(line_, 16);
  line_.clear();
  last_chunk_ = left_ == 0;
  state_ = last_chunk_ ? State::kChunkEnd : State::kChunk;
  if (last_chunk_) left_ = kLineEnd;
  return used;
}

void AnswerScanner::count(std::string_view body) {
  char before = tail_.empty() ? '\0' : tail_.back();
  for (const char byte : body) {
    if (byte == '\n' && before == '\n') ++events_;
    before = byte;
  }
  tail_ += body.substr(body.size() - std::min(body.size(), kDone.size()));
  if (tail_.size() > kDone.size()) tail_.erase(0, tail_.size() - kDone.size());
}

}  // namespace facet::test
