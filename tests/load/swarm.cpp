#include "tests/load/swarm.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <netinet/in.h>
#include <sys/socket.h>
#include <utility>

#include "base/process.h"

namespace facet::test {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

/// Loopback addresses that peers come from, so that ports of closed connections, which wait for a
/// minute, do not run out.
constexpr uint32_t kAddresses = 16;
constexpr uint32_t kFirstAddress = 0x7F000002;

}  // namespace

// ---- Peer

Peer::Peer(Swarm& swarm) : swarm_(swarm), socket_(swarm.io_) {}

void Peer::connect() {
  error_code ignored;
  socket_.open(tcp::v4(), ignored);
  const int late = 1;  // the port is chosen at connect(), when both ends are known
  setsockopt(socket_.native_handle(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
  const uint32_t from = kFirstAddress + swarm_.next_address_++ % kAddresses;
  socket_.bind({asio::ip::address_v4(from), 0}, ignored);
  const tcp::endpoint to(asio::ip::address_v4::loopback(), static_cast<uint16_t>(swarm_.port_));
  socket_.async_connect(to, [self = shared_from_this()](const error_code& error) {
    if (self->state_ == State::kClosed) return;
    if (error) return self->lost();
    self->state_ = State::kOpen;
    error_code failure;
    self->socket_.non_blocking(true, failure);
    self->read();
    self->write();
  });
}

void Peer::send(std::string_view bytes) {
  unsent_ = bytes;
  sent_at_ = Clock::now();
  if (answer_.done()) answer_ = AnswerScanner();
  write();
}

void Peer::write() {
  if (state_ != State::kOpen || writing_ || unsent_.empty()) return;
  writing_ = true;
  socket_.async_write_some(asio::buffer(unsent_.data(), unsent_.size()),
                           [self = shared_from_this()](const error_code& error, size_t bytes) {
                             self->writing_ = false;
                             if (error) return self->lost();
                             self->unsent_.remove_prefix(bytes);
                             self->write();
                           });
}

void Peer::read() {
  socket_.async_wait(tcp::socket::wait_read,
                     [self = shared_from_this()](const error_code& failure) {
                       if (failure || self->state_ == State::kClosed) return self->lost();
                       error_code error;
                       std::vector<char>& scratch = self->swarm_.scratch_;
                       const size_t bytes = self->socket_.read_some(asio::buffer(scratch), error);
                       if (error && error != asio::error::would_block) return self->lost();
                       self->take({scratch.data(), bytes});
                       if (self->state_ == State::kOpen) self->read();
                     });
}

void Peer::take(std::string_view bytes) {
  while (!bytes.empty()) {
    if (answer_.done()) answer_ = AnswerScanner();
    bytes.remove_prefix(answer_.take(bytes));
    if (on_bytes) on_bytes(*this);
    if (!answer_.done()) continue;
    ++answers_;
    if (on_answer) on_answer(*this);
  }
}

void Peer::lost() {
  if (state_ == State::kClosed) return;
  close();
  if (on_closed) on_closed(*this);
}

void Peer::reset() {
  if (state_ == State::kClosed) return;
  error_code ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

void Peer::close() {
  state_ = State::kClosed;
  error_code ignored;
  socket_.close(ignored);
}

// ---- Swarm

Swarm::Swarm(int port) : port_(port) { raise_descriptor_limit(); }

// What is under way holds peers; they go before the loop does.
Swarm::~Swarm() { io_.stop(); }

std::shared_ptr<Peer> Swarm::connect(std::string_view bytes) {
  const auto peer = std::make_shared<Peer>(*this);
  peer->send(bytes);
  peer->connect();
  return peer;
}

bool Swarm::run_until(const std::function<bool()>& done, std::chrono::duration<double> patience) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience);
  while (!done()) {
    if (Clock::now() > end) return false;
    io_.restart();
    io_.run_for(std::chrono::milliseconds(5));
  }
  return true;
}

void Swarm::run_for(std::chrono::duration<double> time) {
  run_until([] { return false; }, time);
}

void Swarm::pace(int64_t count,
                 std::chrono::duration<double> time,
                 const std::function<void(int64_t)>& body) {
  const auto begin = Clock::now();
  for (int64_t i = 0; i < count; ++i) {
    const auto due = std::chrono::duration_cast<Clock::duration>(
        time * (static_cast<double>(i) / static_cast<double>(count)));
    io_.restart();
    io_.poll();
    while (Clock::now() < begin + due) {
      io_.restart();
      io_.run_one_until(begin + due);
    }
    body(i);
  }
}

double percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

}  // namespace facet::test
