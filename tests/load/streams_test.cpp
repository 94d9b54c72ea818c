// Many streams at a time, and what they leave behind (reliability 5: G-09, G-12, G-20).

#include <csignal>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/load/hash_server.h"
#include "tests/load/load_size.h"
#include "tests/load/process_use.h"
#include "tests/load/swarm.h"

namespace facet::test {
namespace {

using std::chrono::seconds;
using Peers = std::vector<std::shared_ptr<Peer>>;

constexpr int64_t kMostBytesPerStream = 12 << 10;

/// Seconds between events of one stream.
class Gaps {
 public:
  void watch(Peer& peer) {
    peer.on_bytes = [this, last = Peer::Clock::time_point(),
                     events = int64_t{0}](Peer& one) mutable {
      if (one.answer().events() == events) return;
      events = one.answer().events();
      if (recording_ && last != Peer::Clock::time_point()) gaps_.push_back(seconds_since(last));
      last = Peer::Clock::now();
    };
  }
  void record() { recording_ = true; }
  std::vector<double>& take() {
    recording_ = false;
    return gaps_;
  }

 private:
  bool recording_ = false;
  std::vector<double> gaps_;
};

bool all_have_events(const Peers& peers, int64_t events) {
  return std::all_of(peers.begin(), peers.end(),
                     [&](const auto& peer) { return peer->answer().events() >= events; });
}

/// Streams a little, so that the prompt is in the prefix cache.
void begin_and_reset(const TestServer& server, const std::string& request) {
  Wire wire = server.connect();
  wire.send(request);
  EXPECT_TRUE(wire.read_until("\"content\":\""));
  wire.reset();
  EXPECT_TRUE(server.becomes_idle());
}

TEST(LoadStreams, ManyAreHeldInLittleMemory) {
  const int32_t count = load_size().streams;
  // A step of ten thousand takes a second, half of it spent on their hashes and draws.
  const std::string most = std::to_string(count + 16);
  const TestServer server =
      hash_server({"--step-ms", "5", "--row-us", "50", "--prompt-rows", "4096", "--sequences", most,
                   "--pages", "131072", "--max-connections", most, "--max-queue", most});
  EXPECT_EQ(server.request("GET", "/health").status, 200);
  const std::string request = chat_stream_request(4000);
  for (int i = 0; i < 3; ++i) begin_and_reset(server, request);
  const ProcessUse before = quiet_use(server);
  Swarm swarm(server.port());
  Gaps gaps;
  Peers peers;
  const auto begin = Swarm::Clock::now();
  swarm.pace(count, seconds(4), [&](int64_t) {
    peers.push_back(swarm.connect(request));
    gaps.watch(*peers.back());
  });
  ASSERT_TRUE(swarm.run_until([&] { return all_have_events(peers, 3); }, seconds(60)));
  const double ramp = seconds_since(begin);
  gaps.record();
  swarm.run_for(seconds(10));
  std::vector<double>& measured = gaps.take();
  const ProcessUse held = process_use(server.pid());
  const int64_t each = (held.resident - before.resident) / count;
  const auto asked = Swarm::Clock::now();
  EXPECT_EQ(server.request("GET", "/health").status, 200);
  const double health = seconds_since(asked);
  figure(
      "{} streams held, all begun after {:.1f} s: {} bytes each (resident {:.1f} MB, before {:.1f} "
      "MB); events {:.0f}/s, gaps median {:.3f} s, p99 {:.3f} s, longest {:.3f} s; health {:.1f} "
      "ms",
      count, ramp, each, static_cast<double>(held.resident) / 1e6,
      static_cast<double>(before.resident) / 1e6, static_cast<double>(measured.size()) / 10,
      percentile(measured, 0.5), percentile(measured, 0.99), percentile(measured, 1), 1e3 * health);
  EXPECT_LE(each, kMostBytesPerStream);
  EXPECT_GE(std::ssize(measured), count) << "streams stand still";
  EXPECT_GE(held.descriptors, before.descriptors + count);
  for (const auto& peer : peers) EXPECT_TRUE(peer->open());
  for (const auto& peer : peers) peer->reset();
  EXPECT_TRUE(server.becomes_idle());
  EXPECT_EQ(quiet_use(server).descriptors, before.descriptors);
}

/// Connects and goes away, each time at another moment.
class Leaver {
 public:
  explicit Leaver(Swarm& swarm) : swarm_(swarm) {}

  void begin(int64_t i) {
    const auto phase = i % 5;
    const std::string& bytes = phase == 0 ? half_head_ : phase == 1 ? plain_ : stream_;
    peers_.push_back(swarm_.connect(bytes));
    if (phase >= 3) {
      peers_.back()->on_bytes = [wanted = 1 + i % 7](Peer& peer) {
        if (peer.answer().events() >= wanted) peer.reset();
      };
    }
    // The others go a tenth of a second after they came: queued, in their prompt, in their answer.
    constexpr int64_t kLag = 100;
    if (i >= kLag) peers_[static_cast<size_t>(i - kLag)]->reset();
  }
  void end_all() {
    for (const auto& peer : peers_) peer->reset();
  }

 private:
  Swarm& swarm_;
  const std::string stream_ = chat_stream_request(500);
  const std::string plain_ = chat_request(500);
  const std::string half_head_ = plain_.substr(0, 60);
  Peers peers_;
};

TEST(LoadStreams, DisconnectsLeaveNothingBehind) {
  const LoadSize size = load_size();
  const TestServer server = hash_server({"--step-ms", "5", "--sequences", "256"});
  server.expect_well();
  ASSERT_TRUE(server.becomes_idle());
  const ProcessUse before = quiet_use(server);
  const EngineState empty = engine_state(server);
  Swarm swarm(server.port());
  Leaver leaver(swarm);
  swarm.pace(size.disconnects, std::chrono::duration<double>(size.disconnect_seconds),
             [&](int64_t i) { leaver.begin(i); });
  leaver.end_all();
  const auto over = Swarm::Clock::now();
  const auto nothing_left = [&] {
    // The connection that asks may not be closed yet.
    return engine_state(server) == empty &&
           process_use(server.pid()).descriptors <= before.descriptors + 1;
  };
  EXPECT_TRUE(swarm.run_until(nothing_left, seconds(10)));
  const double clean = seconds_since(over);
  const ProcessUse after = quiet_use(server);
  figure(
      "{} disconnects in {:.0f} s: pages, descriptors and requests as before within {:.0f} ms; "
      "descriptors {} and {}, threads {} and {}",
      size.disconnects, size.disconnect_seconds, 1e3 * clean, before.descriptors, after.descriptors,
      before.threads, after.threads);
  EXPECT_EQ(engine_state(server), empty);
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_EQ(after.threads, before.threads);
  if (size.timed) EXPECT_LE(clean, 1);
  server.expect_well();
}

TEST(LoadStreams, ATerminatedServerFinishesThem) {
  const int32_t count = load_size().drained_streams;
  TestServer server =
      hash_server({"--step-ms", "20", "--pages", "16384", "--sequences", std::to_string(count)});
  const std::string request = chat_stream_request(150);
  Swarm swarm(server.port());
  Peers peers;
  swarm.pace(count, std::chrono::duration<double>(0.5),
             [&](int64_t) { peers.push_back(swarm.connect(request)); });
  ASSERT_TRUE(swarm.run_until([&] { return all_have_events(peers, 1); }, seconds(10)));
  const auto finished = [&] {
    return std::count_if(peers.begin(), peers.end(), [](const auto& peer) {
      return peer->answer().done() && peer->answer().said_done();
    });
  };
  ASSERT_LT(finished(), count);
  const auto begin = Swarm::Clock::now();
  server.signal(SIGTERM);
  // A request may overtake the signal; it would wait for a sequence to end.
  const auto draining = [&] { return server.request("GET", "/health/ready").status == 503; };
  ASSERT_TRUE(swarm.run_until(draining, seconds(5)));
  EXPECT_EQ(server.post(kChat, chat_body()).code(), "shutting_down");
  const auto refused = swarm.connect(request);
  EXPECT_TRUE(swarm.run_until([&] { return refused->answers() > 0; }, seconds(5)));
  EXPECT_EQ(refused->answer().status(), 503);
  EXPECT_TRUE(swarm.run_until([&] { return finished() == count; }, seconds(30)));
  EXPECT_EQ(server.wait(), 0);
  figure("SIGTERM under {} streams: {} finished, exit after {:.1f} s", count, finished(),
         seconds_since(begin));
  for (const auto& peer : peers) EXPECT_TRUE(peer->answer().said_done());
}

}  // namespace
}  // namespace facet::test
