#include "server/http/chunk_decoder.h"

#include <algorithm>
#include <charconv>

namespace facet::http {
namespace {

constexpr size_t kMostDigits = 16;

bool is_token(std::string_view name) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

}  // namespace

// Up to the end of a line: line_ is whole if the last byte taken is '\n'.
size_t ChunkDecoder::take_line(std::string_view data) {
  const size_t most =
      state_ == State::kSize ? kMostDigits + limits_.chunk_extension : limits_.field;
  for (size_t at = 0; at < data.size(); ++at) {
    const char c = data[at];
    if (return_seen_) {
      if (c != '\n') fault_ = Fault::kBadRequest;
      return at + 1;
    }
    if (c == '\r') {
      return_seen_ = true;
      continue;
    }
    const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\t';
    if (control || c == '\x7f' || line_.size() == most) {
      fault_ = Fault::kBadRequest;
      return at;
    }
    line_ += c;
  }
  return data.size();
}

void ChunkDecoder::end_size(uint64_t limit, size_t body_bytes) {
  const size_t digits = std::min(line_.find(';'), line_.size());
  const char* end = line_.data() + digits;
  const auto [stopped, failure] = std::from_chars(line_.data(), end, left_, 16);
  const bool sound = digits > 0 && digits <= kMostDigits && failure == std::errc() &&
                     stopped == end && line_.size() - digits <= limits_.chunk_extension;
  if (!sound || ++chunks_ > limits_.chunks) {
    fault_ = Fault::kBadRequest;
  } else if (left_ > limit - body_bytes) {
    fault_ = Fault::kPayloadTooLarge;
  } else {
    state_ = left_ == 0 ? State::kTrailer : State::kData;
  }
}

void ChunkDecoder::end_trailer() {
  if (line_.empty()) {
    state_ = State::kDone;
    return;
  }
  trailer_bytes_ += line_.size();
  const bool sound = is_token(std::string_view(line_).substr(0, line_.find(':'))) &&
                     line_.find(':') != std::string::npos;
  if (!sound) {
    fault_ = Fault::kBadRequest;
  } else if (++trailers_ > limits_.fields || trailer_bytes_ > limits_.head) {
    fault_ = Fault::kHeadersTooLarge;
  }
}

size_t ChunkDecoder::take(std::string_view data, uint64_t limit, std::string& body) {
  size_t taken = 0;
  while (taken < data.size() && !done() && !fault_) {
    const std::string_view rest = data.substr(taken);
    if (state_ == State::kData) {
      const size_t bytes = std::min<uint64_t>(left_, rest.size());
      body += rest.substr(0, bytes);
      left_ -= bytes;
      taken += bytes;
      if (left_ == 0) state_ = State::kDataEnd;
      continue;
    }
    const size_t bytes = take_line(rest);
    taken += bytes;
    if (fault_ || !return_seen_ || data[taken - 1] != '\n') continue;
    return_seen_ = false;
    if (state_ == State::kSize) {
      end_size(limit, body.size());
    } else if (state_ == State::kTrailer) {
      end_trailer();
    } else if (line_.empty()) {
      state_ = State::kSize;
    } else {
      fault_ = Fault::kBadRequest;
    }
    line_.clear();
  }
  return taken;
}

}  // namespace facet::http
