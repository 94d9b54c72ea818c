// Peers that hold the server up on purpose, and one that needs it back (reliability 5: G-11, G-17).

#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/load/asker.h"
#include "tests/load/hash_server.h"
#include "tests/load/load_size.h"
#include "tests/load/swarm.h"

namespace facet::test {
namespace {

using std::chrono::seconds;
using Seconds = std::chrono::duration<double>;
using Clock = Swarm::Clock;

/// Peers that send a byte a second, and note how long the server bears that.
class SlowPeers {
 public:
  explicit SlowPeers(Swarm& swarm) : swarm_(swarm) {}

  void add_head() { add(head_); }
  void add_body() { add(body_); }

  /// To be called every few milliseconds: the bytes of all of them are spread over a second.
  void go_on() {
    const double passed = seconds_since(last_);
    if (peers_.empty() || passed < 0.005) return;
    last_ = Clock::now();
    auto due = static_cast<int64_t>(passed * static_cast<double>(peers_.size())) + 1;
    for (due = std::min(due, std::ssize(peers_)); due > 0; --due) {
      next_ = (next_ + 1) % peers_.size();
      if (peers_[next_]->open()) peers_[next_]->send("x");
    }
  }
  int64_t open() const {
    return std::count_if(peers_.begin(), peers_.end(),
                         [](const auto& peer) { return peer->open(); });
  }
  int64_t told() const { return told_; }
  /// Seconds.
  double longest() const { return longest_; }

 private:
  void add(const std::string& bytes) {
    const auto peer = swarm_.connect(bytes);
    peer->on_answer = [this](Peer& one) {
      if (one.answer().status() == 408) ++told_;
    };
    peer->on_closed = [this, begin = Clock::now()](Peer&) {
      longest_ = std::max(longest_, seconds_since(begin));
    };
    peers_.push_back(peer);
  }

  Swarm& swarm_;
  const std::string head_ = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
  const std::string body_ =
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
      "Content-Type: application/json\r\nContent-Length: 4096\r\n\r\n{";
  std::vector<std::shared_ptr<Peer>> peers_;
  Clock::time_point last_ = Clock::now();
  size_t next_ = 0;
  int64_t told_ = 0;
  double longest_ = 0;
};

TEST(LoadPeers, SlowOnesDoNotSlowAGoodOne) {
  const LoadSize size = load_size();
  std::vector<std::string> flags = {"--step-ms", "10"};
  // At their defaults both end after ten seconds.
  if (!size.timed) flags.insert(flags.end(), {"--header-timeout", "2", "--body-timeout", "2"});
  const double deadline = size.timed ? 10 : 2;
  const TestServer server = hash_server(flags);
  Swarm swarm(server.port());
  Asker good(swarm, chat_request(10), 0);
  Asker health(swarm, http_request("GET", "/health"), 0.02);
  SlowPeers slow(swarm);
  const auto go_on = [&] {
    good.go_on();
    health.go_on();
    slow.go_on();
    return false;
  };
  swarm.run_until(go_on, Seconds(deadline));
  std::vector<double> quiet = good.take();
  health.take();
  const int64_t slow_peers = size.slow_heads + size.slow_bodies;
  const auto pace_begin = Clock::now();
  swarm.pace(slow_peers, Seconds(2), [&](int64_t i) {
    (i % 6 == 5 ? slow.add_body() : slow.add_head());
    go_on();
  });
  ASSERT_EQ(slow.open(), slow_peers);
  const bool all_gone = swarm.run_until(
      [&] {
        go_on();
        return slow.open() == 0;
      },
      Seconds(3 * deadline));
  std::vector<double> beside = good.take();
  std::vector<double> healthy = health.take();
  figure(
      "{} slow peers for {:.1f} s: a good one's answer took median {:.1f} ms, p99 {:.1f} ms beside "
      "them ({} answers), {:.1f} and {:.1f} ms before ({}); health median {:.2f} ms, p99 {:.2f} "
      "ms; slow ones told 408: {}, the last closed after {:.2f} s",
      slow_peers, seconds_since(pace_begin), 1e3 * percentile(beside, 0.5),
      1e3 * percentile(beside, 0.99), beside.size(), 1e3 * percentile(quiet, 0.5),
      1e3 * percentile(quiet, 0.99), quiet.size(), 1e3 * percentile(healthy, 0.5),
      1e3 * percentile(healthy, 0.99), slow.told(), slow.longest());
  EXPECT_TRUE(all_gone);
  EXPECT_EQ(slow.told(), slow_peers);
  EXPECT_GE(std::ssize(beside) + 1, good.asked() - std::ssize(quiet));
  if (size.timed) {
    EXPECT_LE(percentile(beside, 0.99), 1.2 * percentile(quiet, 0.99));
    EXPECT_LT(percentile(healthy, 0.99), 0.010);
    EXPECT_LE(slow.longest(), deadline + 1);
  }
  server.expect_well();
}

/// `facet serve fable` on a port of its own choice, which it is killed on and started at again.
class Phoenix {
 public:
  explicit Phoenix(int port) : port_(std::to_string(port)) {}
  ~Phoenix() { kill_it(); }
  Phoenix(const Phoenix&) = delete;
  Phoenix& operator=(const Phoenix&) = delete;

  void start() {
    child_ = fork();
    if (child_ != 0) return;
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    execl(FACET_PROGRAM, "facet", "serve", "fable", "--backend", "cpu", "--threads", "1",
          "--kv-memory", "100MB", "--port", port_.c_str(), nullptr);
    _exit(127);
  }
  void kill_it() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  const std::string port_;
  pid_t child_ = -1;
};

/// Of those that the system gives nobody by itself: between a kill and a start nobody takes it.
int free_port() {
  constexpr int kFirst = 20000;
  constexpr int kCount = 10000;
  for (int i = 0; i < kCount; ++i) {
    const int port = kFirst + (getpid() + i) % kCount;
    const int probe = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int taken = bind(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    close(probe);
    if (taken == 0) return port;
  }
  return 0;
}

/// Asks until there is an answer.
void wait_until_listening(Swarm& swarm) {
  const std::string request = http_request("GET", "/health/live");
  std::shared_ptr<Peer> peer = swarm.connect(request);
  EXPECT_TRUE(swarm.run_until(
      [&] {
        if (!peer->open()) peer = swarm.connect(request);
        return peer->answers() > 0;
      },
      seconds(30)));
  EXPECT_EQ(peer->answer().status(), 200);
}

TEST(LoadPeers, AKilledServerListensAgainAtOnce) {
  const LoadSize size = load_size();
  const int port = free_port();
  ASSERT_GT(port, 0);
  Phoenix server(port);
  Swarm swarm(port);
  server.start();
  wait_until_listening(swarm);
  const std::string request = chat_stream_request(4000);
  std::vector<double> times;
  for (int i = 0; i < size.restarts; ++i) {
    // Killed while it loads, and while it answers.
    std::vector<std::shared_ptr<Peer>> peers;
    for (int k = 0; k < 20; ++k) peers.push_back(swarm.connect(request));
    swarm.run_for(std::chrono::milliseconds(100 * (i % 12)));
    const auto begin = Clock::now();
    server.kill_it();
    server.start();
    wait_until_listening(swarm);
    times.push_back(seconds_since(begin));
  }
  figure(
      "kill -9, started again, answers at the same port: median {:.0f} ms, slowest of {} {:.0f} ms",
      1e3 * percentile(times, 0.5), times.size(), 1e3 * percentile(times, 1));
  if (size.timed) EXPECT_LE(percentile(times, 1), 0.2);
}

}  // namespace
}  // namespace facet::test
