// Peers that ask for much and read nothing of it (reliability 5: G-13).

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/load/asker.h"
#include "tests/load/hash_server.h"
#include "tests/load/load_size.h"
#include "tests/load/swarm.h"

namespace facet::test {
namespace {

using Clock = Swarm::Clock;
using Seconds = std::chrono::duration<double>;

constexpr int kReceiveBuffer = 4096;
constexpr int64_t kMostBytesPerReader = 256 << 10;

/// A socket whose bytes nobody reads; the system tells how many it took, and whether the server
/// still holds it.
class StalledReader {
 public:
  StalledReader(const TestServer& server, std::string_view request)
      : wire_(server.connect(kReceiveBuffer)) {
    wire_.send(request);
  }
  void look() {
    if (gone_) return;
    tcp_info info{};
    socklen_t size = sizeof info;
    ASSERT_EQ(getsockopt(wire_.descriptor(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    if (info.tcpi_state != TCP_ESTABLISHED) {
      gone_ = true;
      stood_ = seconds_since(last_taken_);
      return;
    }
    int unread = 0;
    ASSERT_EQ(ioctl(wire_.descriptor(), FIONREAD, &unread), 0);
    if (unread == taken_) return;
    taken_ = unread;
    last_taken_ = Clock::now();
  }
  bool began() const { return taken_ > 0; }
  bool gone() const { return gone_; }
  /// Seconds from the last byte that the system took to the end.
  double stood() const { return stood_; }

 private:
  Wire wire_;
  int taken_ = 0;  // bytes
  Clock::time_point last_taken_ = Clock::now();
  bool gone_ = false;
  double stood_ = 0;
};

TEST(LoadReaders, ThoseThatTakeNothingAreEndedAndDisturbNobody) {
  const LoadSize size = load_size();
  const int32_t count = size.stalled_readers;
  std::vector<std::string> flags = {"--step-ms", "20",          "--pages",
                                    "131072",    "--sequences", std::to_string(count + 8)};
  // At its default they are given 30 seconds.
  if (!size.timed) flags.insert(flags.end(), {"--write-timeout", "3"});
  const double patience = size.timed ? 30 : 3;
  const TestServer server = hash_server(flags);
  Swarm swarm(server.port());
  Asker health(swarm, http_request("GET", "/health"), 0.05);
  server.expect_well();
  ASSERT_TRUE(server.becomes_idle());
  const ProcessUse before = quiet_use(server);
  const EngineState empty = engine_state(server);
  const std::string request =
      chat_request(2000, R"(,"stream":true,"logprobs":true,"top_logprobs":20)");
  std::vector<StalledReader> readers;
  for (int32_t i = 0; i < count; ++i) readers.emplace_back(server, request);
  int64_t most_resident = 0;
  double longest = 0;
  const bool all_gone = swarm.run_until(
      [&] {
        health.go_on();
        most_resident = std::max(most_resident, process_use(server.pid()).resident);
        int64_t open = 0;
        for (StalledReader& reader : readers) {
          reader.look();
          open += reader.gone() ? 0 : 1;
        }
        return open == 0;
      },
      Seconds(patience + 90));
  std::vector<double> healthy = health.take();
  for (const StalledReader& reader : readers) {
    EXPECT_TRUE(reader.began());
    longest = std::max(longest, reader.stood());
  }
  const int64_t each = (most_resident - before.resident) / count;
  EXPECT_TRUE(server.becomes_idle());
  EXPECT_EQ(engine_state(server), empty);
  EXPECT_LE(quiet_use(server).descriptors, before.descriptors);
  figure(
      "{} readers that take nothing: {} bytes each at most, the last ended {:.1f} s after its last "
      "byte was taken; health median {:.2f} ms, p99 {:.2f} ms meanwhile",
      count, each, longest, 1e3 * percentile(healthy, 0.5), 1e3 * percentile(healthy, 0.99));
  EXPECT_TRUE(all_gone);
  EXPECT_LE(each, kMostBytesPerReader);
  if (size.timed) EXPECT_LE(longest, patience + 1);
  server.expect_well();
}

}  // namespace
}  // namespace facet::test
