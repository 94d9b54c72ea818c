#include "server/http/connection.h"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <utility>

#include "server/http/response_head.h"

namespace facet::http {

/// The handler's way to one request of a connection.
class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, uint64_t serial)
      : connection_(std::move(connection)), serial_(serial) {}

  void respond(Response response) override { connection_->respond(serial_, std::move(response)); }
  void begin_stream(Response head) override { connection_->begin_stream(serial_, std::move(head)); }
  void write(std::string_view data) override { connection_->write(serial_, data); }
  void end_stream(After after) override { connection_->end_stream(serial_, after); }
  void on_gone(std::function<void()> gone) override {
    connection_->on_gone(serial_, std::move(gone));
  }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t serial_;
};

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
  transport_->handshake([self = shared_from_this()](const SystemError& error, size_t /*bytes*/) {
    if (self->state_ == State::kClosed) return;
    if (error) return self->close();
    self->state_ = State::kHead;
    self->read_more();
  });
}

bool Connection::busy() const {
  return state_ == State::kBody || state_ == State::kAnswer || state_ == State::kFlush;
}

void Connection::check_time(Clock::time_point now) {
  const Limits& limits = context_.limits;
  if (write_active_ && now - progress_ > limits.stall_time) {
    ++context_.slow_readers;
    return abort();
  }
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
    self->on_read(error, data);
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
    refuse_body(std::move(*admission.refusal));
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

// ---- Answering

void Connection::dispatch() {
  state_ = State::kAnswer;
  streaming_ = false;
  ++serial_;
  const std::unique_ptr<RequestParser> parser = std::move(parser_);
  if (in_.empty()) std::string().swap(in_);
  context_.handler.handle(std::move(parser->head()), std::move(parser->body()),
                          std::make_shared<ConnectionExchange>(shared_from_this(), serial_));
}

void Connection::refuse(Fault fault) {
  close_after_ = true;
  send(context_.handler.refuse(fault, parser_ ? &parser_->head() : nullptr));
  parser_.reset();
  state_ = State::kFlush;
  flush();
}

void Connection::refuse_body(Response response) {
  // A client that asked whether to send its body may or may not send it after a refusal.
  const uint64_t length = parser_->content_length().value_or(UINT64_MAX);
  const bool drains = length <= context_.limits.drained && !parser_->expects_continue();
  if (!drains && !parser_->done()) close_after_ = true;
  send(std::move(response));
  deadline_ = Clock::now() + context_.limits.body_time;
  state_ = close_after_ || parser_->done() ? State::kFlush : State::kDiscard;
  if (state_ == State::kFlush) parser_.reset();
  flush();
}

std::string Connection::head_of(const Response& response, std::string_view framing) const {
  const bool names_keep_alive = http_1_0_ && !close_after_;
  return response_head(response, framing,
                       close_after_       ? "close"
                       : names_keep_alive ? "keep-alive"
                                          : std::string_view());
}

void Connection::send(Response response) {
  close_after_ = close_after_ || context_.draining;
  out_ += head_of(response, content_length_field(response.body.size()));
  if (!head_only_) out_ += response.body;
}

void Connection::respond(uint64_t serial, Response response) {
  if (!answers(serial) || streaming_) return;
  gone_ = nullptr;
  send(std::move(response));
  state_ = State::kFlush;
  flush();
}

void Connection::begin_stream(uint64_t serial, Response head) {
  if (!answers(serial) || streaming_) return;
  if (ended_) return abort();
  streaming_ = true;
  close_after_ = close_after_ || http_1_0_ || context_.draining;
  out_ += head_of(head, http_1_0_ ? std::string_view() : kChunkedField);
  flush();
}

void Connection::write(uint64_t serial, std::string_view data) {
  if (!answers(serial) || !streaming_ || data.empty()) return;
  if (unsent() + data.size() > context_.limits.unsent) {
    ++context_.slow_readers;
    return abort();
  }
  append_chunk(out_, data, http_1_0_ ? Framing::kNone : Framing::kChunked);
  flush();
}

void Connection::end_stream(uint64_t serial, After after) {
  if (!answers(serial) || !streaming_) return;
  close_after_ = close_after_ || after == After::kClose;
  gone_ = nullptr;
  if (!http_1_0_) out_ += kLastChunk;
  state_ = State::kFlush;
  flush();
}

void Connection::on_gone(uint64_t serial, std::function<void()> gone) {
  if (answers(serial)) {
    gone_ = std::move(gone);
  } else {
    gone();
  }
}

// ---- Writing

void Connection::flush() {
  if (state_ == State::kClosed || write_active_) return;
  if (out_.empty()) {
    if (state_ == State::kFlush) after_flush();
    return;
  }
  sending_ = std::exchange(out_, {});
  sent_ = 0;
  write_active_ = true;
  progress_ = Clock::now();
  write_some();
}

void Connection::write_some() {
  transport_->write(std::string_view(sending_).substr(sent_),
                    [self = shared_from_this()](const SystemError& error, size_t bytes) {
                      if (self->state_ == State::kClosed) return;
                      if (error) return self->abort();
                      self->progress_ = Clock::now();
                      self->sent_ += bytes;
                      if (self->sent_ < self->sending_.size()) return self->write_some();
                      std::string().swap(self->sending_);
                      self->sent_ = 0;
                      self->write_active_ = false;
                      self->flush();
                    });
}

void Connection::after_flush() {
  if (close_after_) return linger();
  next_request();
}

void Connection::next_request() {
  state_ = State::kHead;
  streaming_ = false;
  deadline_ = Clock::now() + context_.limits.idle_time;
  process();
}

void Connection::linger() {
  if (ended_) return close();
  transport_->shutdown_send();
  state_ = State::kLinger;
  window_bytes_ = in_.size();
  std::string().swap(in_);
  deadline_ = Clock::now() + context_.limits.linger_time;
  read_more();
}

void Connection::abort() { close(); }

void Connection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  transport_->close();
  const std::function<void()> gone = std::exchange(gone_, nullptr);
  const std::shared_ptr<Connection> self = shared_from_this();  // closed() may drop the last one
  context_.closed(*this);
  if (gone) gone();
}

}  // namespace facet::http
