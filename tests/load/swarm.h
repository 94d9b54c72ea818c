#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/load/answer_scanner.h"

namespace facet::test {

class Swarm;

/// One socket of a swarm: sends what it is given and follows the answers, one after another.
class Peer : public std::enable_shared_from_this<Peer> {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Peer(Swarm& swarm);

  /// `bytes` must stay where they are until they are sent. Before the connection is there, too.
  void send(std::string_view bytes);
  /// Closes it with a reset instead of a farewell.
  void reset();
  void close();

  /// Called whenever bytes came, on an answer's end too.
  std::function<void(Peer&)> on_bytes;
  /// Called once when an answer is complete; the next one begins with the next bytes.
  std::function<void(Peer&)> on_answer;
  /// Called once if the server closes the connection, or refuses it.
  std::function<void(Peer&)> on_closed;

  /// Of the answer under way, or the last one.
  const AnswerScanner& answer() const { return answer_; }
  Clock::time_point sent_at() const { return sent_at_; }
  int64_t answers() const { return answers_; }
  bool open() const { return state_ != State::kClosed; }

 private:
  friend class Swarm;
  enum class State { kConnecting, kOpen, kClosed };

  void connect();
  void write();
  void read();
  void take(std::string_view bytes);
  void lost();

  Swarm& swarm_;
  boost::asio::ip::tcp::socket socket_;
  State state_ = State::kConnecting;
  std::string_view unsent_;
  bool writing_ = false;
  AnswerScanner answer_;
  int64_t answers_ = 0;
  Clock::time_point sent_at_;
};

/// A load generator: any number of sockets on the caller's thread.
class Swarm {
 public:
  using Clock = Peer::Clock;

  /// Of a server on 127.0.0.1. Raises the limit of descriptors.
  explicit Swarm(int port);
  ~Swarm();
  Swarm(const Swarm&) = delete;
  Swarm& operator=(const Swarm&) = delete;

  /// Connects one more socket, that first sends `bytes`.
  std::shared_ptr<Peer> connect(std::string_view bytes = {});
  /// Everything goes on until `done`, which is asked again and again, or for `patience`; what
  /// `done` says then.
  bool run_until(const std::function<bool()>& done, std::chrono::duration<double> patience);
  void run_for(std::chrono::duration<double> time);
  /// Calls `body` with 0 to count - 1, evenly over `time`, while everything goes on.
  void pace(int64_t count,
            std::chrono::duration<double> time,
            const std::function<void(int64_t)>& body);

 private:
  friend class Peer;

  boost::asio::io_context io_{1};
  const int port_;
  uint32_t next_address_ = 0;
  std::vector<char> scratch_ = std::vector<char>(64 << 10);
};

/// The value below which `share` of them are; 0 of none. Changes their order.
double percentile(std::vector<double>& values, double share);

}  // namespace facet::test
