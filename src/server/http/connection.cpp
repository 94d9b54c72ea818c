#include "server/http/connection.h"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <chrono>
#include <new>
#include <utility>

#include "server/http/response_head.h"

namespace facet::http {
namespace {

/// Between two looks at how much of a stream its reader took: each is a system call.
constexpr std::chrono::milliseconds kLookAtReader{500};

}  // namespace

Connection::Connection(std::unique_ptr<Transport> transport,
                       Peer peer,
                       bool over_capacity,
                       ConnectionContext& context)
    : transport_(std::move(transport)),
      peer_(std::move(peer)),
      over_capacity_(over_capacity),
      context_(context) {}

void Connection::start() {
  deadline_ = Clock::now() + context_.limits.head_time;
  transport_->handshake([self = shared_from_this()](Transport::Opened opened) {
    if (self->state_ == State::kClosed || opened == Transport::Opened::kFailed)
      return self->close();
    if (opened == Transport::Opened::kPlainHttp) return self->refuse(Fault::kNoTls);
    self->state_ = State::kHead;
    self->read_more();
  });
}

bool Connection::reader_stalls(Clock::time_point now) {
  // A short write always succeeds while the system has room: what counts is what has left it for
  // good. (Sent is not enough: probes of a closed window send a little for many seconds.)
  const int64_t taken = written_ - transport_->untaken();
  if (taken > taken_ || (taken == written_ && !write_active_)) {
    taken_ = taken;
    progress_ = now;
  }
  return now - progress_ > context_.limits.stall_time;
}

bool Connection::busy() const {
  return state_ == State::kBody || state_ == State::kAnswer || state_ == State::kFlush;
}

void Connection::check_time(Clock::time_point now) {
  if (state_ == State::kClosed) return;
  const Limits& limits = context_.limits;
  const bool looked_at = now - progress_ < kLookAtReader;
  if ((write_active_ || streaming_) && !looked_at && reader_stalls(now)) return give_reader_up();
  const bool late = now > deadline_;
  switch (state_) {
    case State::kHead:
      if (late && !in_.empty()) return refuse(Fault::kTimeout);
      [[fallthrough]];
    case State::kHandshake:
    case State::kDiscard:
    case State::kLinger:
      if (late) close();
      return;
    case State::kBody:
      if (late) return refuse(Fault::kTimeout);
      if (now - window_begin_ < limits.body_window) return;
      if (window_bytes_ < limits.body_rate * static_cast<size_t>(limits.body_window.count()))
        return refuse(Fault::kTimeout);
      window_begin_ = now;
      window_bytes_ = 0;
      return;
    case State::kAnswer:
    case State::kFlush:
    case State::kClosed:
      return;
  }
}

// ---- Reading

void Connection::read_more() {
  const bool held_up = (state_ == State::kAnswer || state_ == State::kFlush) &&
                       in_.size() >= context_.limits.pipelined;
  if (reading_ || ended_ || held_up || state_ == State::kClosed) return;
  reading_ = true;
  transport_->read([self = shared_from_this()](const SystemError& error, std::string_view data) {
    self->reading_ = false;
    try {
      self->on_read(error, data);
    } catch (const std::bad_alloc&) {
      self->abort();  // what it has and what it sent may be incomplete
    }
  });
}

void Connection::on_read(const SystemError& error, std::string_view data) {
  if (state_ == State::kClosed) return;
  if (error == boost::asio::error::eof) return on_end();
  if (error) return abort();
  if (state_ == State::kLinger) {
    if (window_bytes_ += data.size(); window_bytes_ > context_.limits.drained) return close();
    return read_more();
  }
  in_ += data;
  if (state_ == State::kBody) window_bytes_ += data.size();
  process();
}

void Connection::on_end() {
  ended_ = true;
  close_after_ = true;
  switch (state_) {
    case State::kBody:
      return refuse(Fault::kBadRequest);
    case State::kDiscard:
      state_ = State::kFlush;
      return flush();
    case State::kAnswer:
      if (streaming_ || !transport_->half_close()) return abort();
      return watch_half_closed();
    case State::kFlush:
    case State::kClosed:
      return;
    case State::kHandshake:
    case State::kHead:
    case State::kLinger:
      return close();
  }
}

// The peer may have ended its direction only, and still wait for the answer, or be gone for good;
// both look the same until something is sent to it. An interim answer is allowed at any time, and
// who is gone refuses it.
void Connection::watch_half_closed() {
  if (broken_watched_ || http_1_0_) return;
  broken_watched_ = true;
  transport_->wait_broken([self = shared_from_this()](const SystemError& error, size_t /*bytes*/) {
    if (!error && self->state_ == State::kAnswer) self->abort();
  });
  out_ += kContinue;
  flush();
}

void Connection::process() {
  if (processing_) return;
  processing_ = true;
  while (step()) {
  }
  processing_ = false;
  read_more();
}

bool Connection::step() {
  switch (state_) {
    case State::kHead:
      return step_head();
    case State::kBody:
      return step_body();
    case State::kDiscard:
      return step_discard();
    case State::kAnswer:
    case State::kFlush:
      check_pipeline();
      return false;
    case State::kHandshake:
    case State::kLinger:
    case State::kClosed:
      return false;
  }
  return false;
}

bool Connection::step_head() {
  // Old clients send an empty line behind a body.
  while (!scanner_ && in_.starts_with("\r\n")) in_.erase(0, 2);
  if (in_.empty() || (!scanner_ && in_ == "\r")) return false;
  if (!scanner_) {
    scanner_.emplace(context_.limits);
    deadline_ = std::min(deadline_, Clock::now() + context_.limits.head_time);
  }
  const size_t length = scanner_->scan(in_);
  if (length == 0 && !scanner_->fault()) return false;
  ++requests_;
  http_1_0_ = head_only_ = false;
  if (length == 0) {
    refuse(*scanner_->fault());
    return true;
  }
  scanner_.reset();
  parser_ = std::make_unique<RequestParser>(context_.limits);
  const bool sound = parser_->read_head(std::string_view(in_).substr(0, length));
  in_.erase(0, length);
  RequestHead& head = parser_->head();
  head.peer = peer_.address;
  head.peer_is_local = peer_.is_local;
  head.over_capacity = over_capacity_;
  head_only_ = head.method == "HEAD";
  http_1_0_ = parser_->is_http_1_0();
  close_after_ = ended_ || over_capacity_ || context_.draining || !parser_->keep_alive() ||
                 requests_ >= context_.limits.requests;
  if (!sound) {
    refuse(*parser_->fault());
    return true;
  }
  Handler::Admission admission = context_.handler.admit(head);
  if (admission.refusal) {
    refuse_body(*admission.refusal);
  } else if (parser_->content_length().value_or(0) > admission.body_limit) {
    refuse_body(context_.handler.refuse(Fault::kPayloadTooLarge, &head));
  } else if (!head.has_body) {
    dispatch();
  } else {
    begin_body(admission.body_limit);
  }
  return true;
}

void Connection::begin_body(uint64_t limit) {
  if (parser_->expects_continue() && in_.empty()) {
    out_ += kContinue;
    flush();
  }
  body_limit_ = limit;
  window_begin_ = Clock::now();
  window_bytes_ = in_.size();
  deadline_ = window_begin_ + context_.limits.body_time;
  state_ = State::kBody;
}

bool Connection::step_body() {
  const size_t used = parser_->read_body(in_, body_limit_);
  in_.erase(0, used);
  if (parser_->fault()) {
    refuse(*parser_->fault());
  } else if (parser_->done()) {
    dispatch();
  } else {
    return false;
  }
  return true;
}

bool Connection::step_discard() {
  const size_t used = parser_->read_body(in_, context_.limits.drained);
  parser_->body().clear();
  in_.erase(0, used);
  if (parser_->fault()) close_after_ = true;
  if (!parser_->fault() && !parser_->done()) return false;
  parser_.reset();
  state_ = State::kFlush;
  flush();
  return true;
}

void Connection::check_pipeline() {
  int32_t heads = 0;
  for (size_t at = in_.find("\r\n\r\n"); at != std::string::npos; at = in_.find("\r\n\r\n", at + 4))
    ++heads;
  if (heads > context_.limits.pipelined_requests) abort();
}

}  // namespace facet::http
