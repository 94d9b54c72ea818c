#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/head_scanner.h"
#include "server/http/limits.h"
#include "server/http/message.h"
#include "server/http/request_parser.h"
#include "server/http/transport.h"

namespace facet::http {

struct Peer {
  std::string address;  ///< without port; empty for a Unix socket
  bool is_local = false;
};

class Connection;

/// What all connections of a listener share; outlives them.
struct ConnectionContext {
  const Limits& limits;
  Handler& handler;
  std::function<void(Connection&)> closed;  ///< called once, when a connection ends
  bool draining = false;                    ///< each answer closes its connection
  int64_t slow_readers = 0;                 ///< connections ended for reading too slowly
};

/// One connection: requests one after another, each answered before the next is looked at. Runs on
/// the loop's thread; time limits are looked at by check_time(), which the listener calls.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;

  Connection(std::unique_ptr<Transport> transport,
             Peer peer,
             bool over_capacity,
             ConnectionContext& context);

  void start();
  void check_time(Clock::time_point now);
  /// Ends the connection at once; whoever is answering a request is told.
  void abort();
  const Peer& peer() const { return peer_; }
  /// Is a request being read or answered?
  bool busy() const;

 private:
  friend class ConnectionExchange;

  enum class State {
    kHandshake,
    kHead,     // waiting for a request, or for the rest of its head
    kBody,     // reading a body
    kDiscard,  // answered; reading the rest of a body that is not wanted
    kAnswer,   // the handler has the request
    kFlush,    // the answer is complete, not all of it is sent
    kLinger,   // all is sent and no more will be read; the peer gets time to take it
    kClosed,
  };

  // Reading.
  void read_more();
  void on_read(const SystemError& error, std::string_view data);
  void on_end();
  void process();
  bool step();
  bool step_head();
  bool step_body();
  bool step_discard();
  void begin_body(uint64_t limit);
  void check_pipeline();
  void watch_half_closed();

  // Answering.
  void dispatch();
  void refuse(Fault fault);
  void refuse_body(const Response& response);
  void send(const Response& response);
  std::string head_of(const Response& response, std::string_view framing) const;
  void respond(uint64_t serial, const Response& response);
  void begin_stream(uint64_t serial, const Response& head);
  void write(uint64_t serial, std::string_view data);
  void end_stream(uint64_t serial, After after);
  void on_gone(uint64_t serial, std::function<void()> gone);
  void abort(uint64_t serial);
  bool answers(uint64_t serial) const { return serial == serial_ && state_ == State::kAnswer; }

  // Writing.
  void flush();
  void write_some();
  void sent();
  void after_flush();
  void next_request();
  void linger();
  bool reader_stalls(Clock::time_point now);
  void give_reader_up();
  void close();
  size_t unsent() const { return out_.size() + sending_.size() - sent_; }

  const std::unique_ptr<Transport> transport_;
  const Peer peer_;
  const bool over_capacity_;
  ConnectionContext& context_;

  State state_ = State::kHandshake;
  Clock::time_point deadline_;
  bool reading_ = false;     // a read is under way
  bool processing_ = false;  // process() is on the stack
  bool ended_ = false;       // the peer sends no more
  bool broken_watched_ = false;
  std::string in_;  // read, not yet used

  // The request.
  int32_t requests_ = 0;
  uint64_t serial_ = 0;  // of the request being answered; what holds an older one is ignored
  std::optional<HeadScanner> scanner_;
  std::unique_ptr<RequestParser> parser_;
  uint64_t body_limit_ = 0;
  Clock::time_point window_begin_;  // of measuring the body's rate
  size_t window_bytes_ = 0;
  bool head_only_ = false;
  bool http_1_0_ = false;
  bool close_after_ = false;
  bool streaming_ = false;
  std::function<void()> gone_;

  // What is to be sent: sending_ from sent_ on, which is under way, then out_.
  std::string sending_;
  size_t sent_ = 0;
  bool write_active_ = false;
  std::string out_;
  int64_t written_ = 0;         // bytes that the transport took, of all answers
  int64_t taken_ = 0;           // those that the peer had, when last looked at
  Clock::time_point progress_;  // when they were last seen to grow in number
};

}  // namespace facet::http
