// Too many requests, and very many (reliability 5: G-14, G-16).

#include <gtest/gtest.h>

#include "tests/load/hash_server.h"
#include "tests/load/load_size.h"
#include "tests/load/process_use.h"
#include "tests/load/swarm.h"

namespace facet::test {
namespace {

using std::chrono::seconds;
using Seconds = std::chrono::duration<double>;

/// Sends one request over and over, each time on a connection that is free, and counts the answers.
class Requester {
 public:
  Requester(Swarm& swarm, std::string request) : swarm_(swarm), request_(std::move(request)) {}

  void send() {
    ++sent_;
    while (!free_.empty()) {
      const auto peer = free_.back();
      free_.pop_back();
      // One that was not needed for a minute is closed by the server.
      if (peer->open()) return peer->send(request_);
    }
    const auto peer = swarm_.connect(request_);
    peer->on_answer = [this](Peer& one) { answered(one); };
    peers_.push_back(peer);
  }
  /// From now on each answer is followed by another request.
  void repeat() { repeats_ = true; }
  void stop() { repeats_ = false; }

  int64_t sent() const { return sent_; }
  int64_t answered() const { return served_ + std::ssize(refused_) + other_; }
  int64_t served() const { return served_; }
  int64_t other() const { return other_; }
  /// Seconds from sending to the answer, of those refused.
  std::vector<double>& refused() { return refused_; }
  int64_t connections() const { return std::ssize(peers_); }

 private:
  void answered(Peer& peer) {
    if (peer.answer().status() == 200) {
      ++served_;
    } else if (peer.answer().status() == 503) {
      refused_.push_back(seconds_since(peer.sent_at()));
    } else {
      ++other_;
    }
    if (!peer.answer().closes()) free_.push_back(peer.shared_from_this());
    if (repeats_) send();
  }

  Swarm& swarm_;
  const std::string request_;
  std::vector<std::shared_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Peer>> free_;
  bool repeats_ = false;
  int64_t sent_ = 0;
  int64_t served_ = 0;
  int64_t other_ = 0;
  std::vector<double> refused_;
};

TEST(LoadRequests, OverloadCostsNoThroughputAndIsRefusedAtOnce) {
  const LoadSize size = load_size();
  constexpr int kQueue = 64;
  const TestServer server =
      hash_server({"--step-ms", "5", "--sequences", "16", "--max-queue", std::to_string(kQueue)});
  Swarm swarm(server.port());
  const std::string request = chat_request(16);

  Requester closed(swarm, request);
  closed.repeat();
  for (int i = 0; i < 48; ++i) closed.send();
  swarm.run_for(seconds(1));
  const Seconds time(size.timed ? 8 : 1);
  const int64_t before = closed.served();
  auto begin = Swarm::Clock::now();
  swarm.run_for(time);
  const double peak = static_cast<double>(closed.served() - before) / seconds_since(begin);
  closed.stop();
  ASSERT_TRUE(swarm.run_until([&] { return closed.answered() == closed.sent(); }, seconds(10)));
  EXPECT_EQ(closed.served(), closed.sent());

  const ProcessUse quiet = process_use(server.pid());
  Requester open(swarm, request);
  const auto offered = static_cast<int64_t>(10 * peak * size.overload_seconds);
  begin = Swarm::Clock::now();
  swarm.pace(offered, Seconds(size.overload_seconds), [&](int64_t) { open.send(); });
  const double took = seconds_since(begin);
  const double served = static_cast<double>(open.served()) / took;
  const ProcessUse loaded = process_use(server.pid());
  EXPECT_TRUE(swarm.run_until([&] { return open.answered() == open.sent(); }, seconds(10)));
  std::vector<double>& refused = open.refused();
  figure(
      "peak {:.1f} requests/s; {:.0f}/s offered for {:.0f} s: {:.1f}/s served ({:.1f} %), {} "
      "refused, median {:.2f} ms, p99 {:.2f} ms, slowest {:.2f} ms; {} connections; resident "
      "{:.1f} "
      "MB, before {:.1f} MB",
      peak, static_cast<double>(offered) / took, took, served, 100 * served / peak, refused.size(),
      1e3 * percentile(refused, 0.5), 1e3 * percentile(refused, 0.99), 1e3 * percentile(refused, 1),
      open.connections(), static_cast<double>(loaded.resident) / 1e6,
      static_cast<double>(quiet.resident) / 1e6);
  EXPECT_EQ(open.answered(), open.sent());
  EXPECT_EQ(open.other(), 0);
  EXPECT_GT(std::ssize(refused), offered / 2) << "there was no overload";
  if (size.timed) {
    EXPECT_GE(served, 0.95 * peak);
    EXPECT_LT(percentile(refused, 0.99), 0.010);
  }
  server.expect_well();
}

/// Requests of all kinds over a few connections, some of which break off.
class Mixture {
 public:
  explicit Mixture(Swarm& swarm) : swarm_(swarm) {
    for (int i = 0; i < kPrompts; ++i) {
      prompts_.push_back(http_request(
          "POST", "/v1/completions",
          fmt::format(R"({{"prompt":"Story number {}: once upon a time there was a little fox",)"
                      R"("max_tokens":{},"stream":{}}})",
                      i, 1 + i % 4, i % 2 == 0)));
    }
  }

  void begin() { connect(); }
  int64_t answered() const { return answered_; }
  int64_t wrong() const { return wrong_; }
  /// No further requests from now on; connections close with their last answer.
  void stop() { stopped_ = true; }
  int64_t open() const {
    return std::count_if(peers_.begin(), peers_.end(),
                         [](const auto& peer) { return peer->open(); });
  }

 private:
  static constexpr int kPrompts = 4096;

  struct Ask {
    const std::string& bytes;
    int status;
  };
  Ask next() {
    const int64_t i = sent_++;
    switch (i % 8) {
      case 0:
        return {chat_, 200};
      case 1:
        return {stream_, 200};
      case 2:
        return {tokenize_, 200};
      case 3:
        return {i % 16 == 3 ? bad_json_ : bad_route_, i % 16 == 3 ? 400 : 404};
      default:
        return {prompts_[static_cast<size_t>(i % kPrompts)], 200};
    }
  }

  void connect() {
    std::erase_if(peers_, [](const auto& peer) { return !peer->open(); });
    const Ask ask = next();
    const auto peer = swarm_.connect(ask.bytes);
    peers_.push_back(peer);
    watch(*peer, ask.status);
    peer->on_closed = [this](Peer&) {
      if (!stopped_) connect();
    };
  }
  void watch(Peer& peer, int expected) {
    peer.on_answer = [this, expected](Peer& one) mutable {
      ++answered_;
      if (one.answer().status() != expected) ++wrong_;
      if (stopped_) return one.close();
      const Ask ask = next();
      expected = ask.status;
      one.send(ask.bytes);
      if (sent_ % 97 != 0) return;
      one.reset();  // gone with its request under way
      connect();
    };
  }

  Swarm& swarm_;
  std::vector<std::shared_ptr<Peer>> peers_;
  std::vector<std::string> prompts_;
  const std::string chat_ = chat_request(2);
  const std::string stream_ = chat_stream_request(3);
  const std::string tokenize_ = http_request("POST", "/tokenize", R"({"prompt":"Once upon"})");
  const std::string bad_json_ = http_request("POST", kChat, R"({"messages":[)");
  const std::string bad_route_ = http_request("POST", "/v1/none", "{}");
  bool stopped_ = false;
  int64_t sent_ = 0;
  int64_t answered_ = 0;
  int64_t wrong_ = 0;
};

TEST(LoadRequests, VeryManyLeaveNoMemoryBehind) {
  constexpr int64_t kMostGrowth = 16 << 20;
  constexpr int kConnections = 32;
  const LoadSize size = load_size();
  const TestServer server = hash_server({"--step-ms", "0"});
  server.expect_well();
  ASSERT_TRUE(server.becomes_idle());
  const ProcessUse idle = quiet_use(server);
  Swarm swarm(server.port());
  Mixture mixture(swarm);
  for (int i = 0; i < kConnections; ++i) mixture.begin();
  const auto reach = [&](int64_t wanted) {
    return swarm.run_until([&] { return mixture.answered() >= wanted; }, seconds(3600));
  };
  const int64_t warm = std::min<int64_t>(size.requests, 20000);
  ASSERT_TRUE(reach(warm));
  const ProcessUse before = process_use(server.pid());
  const auto begin = Swarm::Clock::now();
  ASSERT_TRUE(reach(warm + size.requests));
  const double took = seconds_since(begin);
  const ProcessUse after = process_use(server.pid());
  mixture.stop();
  EXPECT_TRUE(swarm.run_until([&] { return mixture.open() == 0; }, seconds(10)));
  EXPECT_TRUE(server.becomes_idle());
  const ProcessUse rest = quiet_use(server);
  figure(
      "{} requests after {} to warm up, {:.0f}/s: resident {:.2f} MB before, {:.2f} MB after, "
      "growth "
      "{:.2f} MB",
      size.requests, warm, static_cast<double>(size.requests) / took,
      static_cast<double>(before.resident) / 1e6, static_cast<double>(after.resident) / 1e6,
      static_cast<double>(after.resident - before.resident) / 1e6);
  EXPECT_EQ(mixture.wrong(), 0);
  EXPECT_LE(after.resident - before.resident, kMostGrowth);
  EXPECT_EQ(rest.descriptors, idle.descriptors);
  EXPECT_EQ(rest.threads, idle.threads);
  server.expect_well();
}

}  // namespace
}  // namespace facet::test
