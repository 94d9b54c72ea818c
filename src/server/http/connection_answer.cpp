// The other half of Connection: what is sent, and the end.

#include <utility>

#include "server/http/connection.h"
#include "server/http/response_head.h"

namespace facet::http {

/// The handler's way to one request of a connection.
class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, uint64_t serial)
      : connection_(std::move(connection)), serial_(serial) {}

  void respond(Response response) override { connection_->respond(serial_, response); }
  void begin_stream(Response head) override { connection_->begin_stream(serial_, head); }
  void write(std::string_view data) override { connection_->write(serial_, data); }
  void end_stream(After after) override { connection_->end_stream(serial_, after); }
  void abort() override { connection_->abort(serial_); }
  void on_gone(std::function<void()> gone) override {
    connection_->on_gone(serial_, std::move(gone));
  }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t serial_;
};

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

void Connection::refuse_body(const Response& response) {
  // A client that asked whether to send its body may or may not send it after a refusal.
  const uint64_t length = parser_->content_length().value_or(UINT64_MAX);
  const bool drains = length <= context_.limits.drained && !parser_->expects_continue();
  if (!drains && !parser_->done()) close_after_ = true;
  send(response);
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

void Connection::send(const Response& response) {
  close_after_ = close_after_ || context_.draining;
  // The length that 304 might name is that of the body which it leaves out.
  out_ += head_of(response, response.status == 304 ? std::string()
                                                   : content_length_field(response.body.size()));
  if (!head_only_) out_ += response.body;
}

void Connection::respond(uint64_t serial, const Response& response) {
  if (!answers(serial) || streaming_) return;
  gone_ = nullptr;
  send(response);
  state_ = State::kFlush;
  flush();
}

void Connection::begin_stream(uint64_t serial, const Response& head) {
  if (!answers(serial) || streaming_) return;
  if (ended_) return abort();
  streaming_ = true;
  close_after_ = close_after_ || http_1_0_ || context_.draining;
  out_ += head_of(head, http_1_0_ ? std::string_view() : kChunkedField);
  flush();
}

void Connection::write(uint64_t serial, std::string_view data) {
  if (!answers(serial) || !streaming_ || data.empty()) return;
  const Limits& limits = context_.limits;
  if (unsent() + data.size() > limits.unsent - limits.system_unsent) return give_reader_up();
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

void Connection::abort(uint64_t serial) {
  if (serial == serial_) abort();
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
  if (taken_ == written_) progress_ = Clock::now();
  write_some();
}

void Connection::write_some() {
  transport_->write(std::string_view(sending_).substr(sent_),
                    [self = shared_from_this()](const SystemError& error, size_t bytes) {
                      if (self->state_ == State::kClosed) return;
                      if (error) return self->abort();
                      self->written_ += static_cast<int64_t>(bytes);
                      self->sent_ += bytes;
                      if (self->sent_ < self->sending_.size()) return self->write_some();
                      self->sent();
                    });
}

void Connection::sent() {
  std::string().swap(sending_);
  sent_ = 0;
  write_active_ = false;
  try {
    flush();  // goes on with the next request, if it has come
  } catch (const std::bad_alloc&) {
    abort();
  }
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
  transport_->shutdown_send([self = shared_from_this()](const SystemError&, size_t) {});
  state_ = State::kLinger;
  window_bytes_ = in_.size();
  std::string().swap(in_);
  deadline_ = Clock::now() + context_.limits.linger_time;
  read_more();
}

void Connection::abort() { close(); }

void Connection::give_reader_up() {
  ++context_.slow_readers;
  transport_->drop_unsent();
  close();
}

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
