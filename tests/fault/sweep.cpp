#include "tests/fault/sweep.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <memory>
#include <regex>
#include <thread>

#include "tests/fault/faulty_server.h"

namespace facet::test {
namespace {

struct Item {
  const char* method;
  const char* path;
  std::string body;
};

std::vector<Item> mix() {
  const std::string question = R"({"messages":[{"role":"user","content":"Hello)";
  const std::string tool = R"({"messages":[{"role":"user","content":"tool!"}],"tools":[{"type":)"
                           R"("function","function":{"name":"f","parameters":{"type":"object",)"
                           R"("properties":{"n":{"type":"integer"},"s":{"type":"string"}}}}}])";
  std::string large;  // made ready on a helper
  for (int i = 0; i < 1000; ++i) large += " and again";
  return {
      {"POST", kChat, question + "\"}]}"},
      {"POST", kChat, question + R"("}],"stream":true,"stream_options":{"include_usage":true}})"},
      {"POST", "/v1/completions", R"({"prompt":"Hello","n":2,"logprobs":2,"max_tokens":4})"},
      {"POST", kChat, tool + "}"},
      {"POST", kChat, tool + R"(,"stream":true})"},
      {"POST", kChat, question + large + R"("}],"max_tokens":2})"},
      {"POST", "/tokenize", R"({"prompt":"Hello"})"},
      {"POST", kChat, R"({"messages":)"},
      {"GET", "/v1/models", ""}};
}

/// What differs from one answer to the next of the same request, made alike.
std::string plain(const std::string& body) {
  static const std::regex changing(R"re("(id|created)":("[^"]*"|[0-9]+))re");
  return std::regex_replace(body, changing, "\"$1\":0");
}

std::vector<HttpAnswer> run_mix(FaultyServer& server) {
  std::vector<HttpAnswer> answers;
  for (const Item& item : mix()) {
    answers.push_back(server.request(item.method, item.path, item.body));
    answers.back().body = plain(answers.back().body);
  }
  return answers;
}

bool same(const HttpAnswer& a, const HttpAnswer& b) {
  return a.status == b.status && a.body == b.body;
}

/// May `got` come in place of `want` once something failed? A right answer, none, a refusal for
/// want of what failed, or a stream that says that it broke off.
bool permitted(const HttpAnswer& got, const HttpAnswer& want) {
  if (got.status == 0 || same(got, want)) return true;
  if (got.status >= 500) return !got.code().empty();
  if (got.status != want.status || got.body.find("data: [DONE]") != std::string::npos) return false;
  const size_t error = got.body.rfind("data: {\"error\":");
  return error != std::string::npos && want.body.starts_with(got.body.substr(0, error));
}

class Sweep {
 public:
  explicit Sweep(FaultKind kind, int error) : kind_(kind), error_(error) { restart(); }

  /// Fails the n-th call; false if the mix makes fewer.
  bool fail(int64_t n) {
    faults_.arm(kind_, n, error_);
    const std::vector<HttpAnswer> answers = run_mix(*server_);
    const bool fired = faults_.disarm() > 0;
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_TRUE(permitted(answers[i], want_[i]))
          << "call " << n << ", request " << i << ": " << answers[i].status << " "
          << answers[i].body << server_->log();
    }
    if (fired) look_after(n);
    return fired;
  }

  /// Calls of the kind that one mix makes.
  int64_t calls() {
    faults_.count(kind_);
    run_mix(*server_);
    return faults_.counted();
  }

  int64_t survived() const { return survived_; }
  int64_t ended() const { return ended_; }

 private:
  void restart() {
    server_ = std::make_unique<FaultyServer>(faults_);
    ASSERT_TRUE(server_->alive()) << server_->log();
    run_mix(*server_);  // warms up
    want_ = run_mix(*server_);
    ASSERT_EQ(want_.front().status, 200) << want_.front().body << server_->log();
    ASSERT_TRUE(server_->becomes_idle());
    pages_ = server_->free_pages();
    descriptors_ = settled_descriptors(-1);
  }

  /// Closed connections linger for a moment.
  int64_t settled_descriptors(int64_t wanted) {
    int64_t least = server_->descriptors();
    for (int i = 0; i < 1500 && least != wanted && (wanted >= 0 || i < 50); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      least = std::min(least, server_->descriptors());
    }
    return least;
  }

  void look_after(int64_t n) {
    // A fault of the engine gives the last answers a second.
    const bool ill = server_->request("GET", "/health").status != 200;
    if (const std::optional<int> code = server_->ended(ill ? 5 : 0)) {
      EXPECT_EQ(fault_of_exit(*code, server_->log()), "") << "call " << n;
      ++ended_;
      return restart();
    }
    ++survived_;
    EXPECT_TRUE(server_->becomes_idle()) << "call " << n << server_->log();
    const std::vector<HttpAnswer> answers = run_mix(*server_);
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_TRUE(same(answers[i], want_[i])) << "after call " << n << ", request " << i << ": "
                                              << answers[i].status << " " << answers[i].body;
    }
    EXPECT_EQ(server_->free_pages(), pages_) << "after call " << n;
    EXPECT_EQ(settled_descriptors(descriptors_), descriptors_) << "after call " << n;
    if (::testing::Test::HasFailure()) restart();
  }

  const FaultKind kind_;
  const int error_;
  Faults faults_;
  std::unique_ptr<FaultyServer> server_;
  std::vector<HttpAnswer> want_;
  std::string pages_;
  int64_t descriptors_ = 0;
  int64_t survived_ = 0;
  int64_t ended_ = 0;
};

struct Kind {
  const char* name;
  FaultKind kind;
  int error;
};
constexpr Kind kKinds[] = {
    {"malloc", FaultKind::kMalloc, ENOMEM},      {"read", FaultKind::kRead, EIO},
    {"write", FaultKind::kWrite, ENOSPC},        {"send", FaultKind::kSend, ENOBUFS},
    {"recv", FaultKind::kRecv, ENOMEM},          {"accept", FaultKind::kAccept, EMFILE},
    {"epoll_ctl", FaultKind::kEpollCtl, ENOMEM}, {"epoll_wait", FaultKind::kEpollWait, EINTR},
    {"mmap", FaultKind::kMmap, ENOMEM},          {"open", FaultKind::kOpen, EMFILE}};

}  // namespace

void sweep_faults(const SweepPart& part) {
  const std::string reason = no_faults_reason();
  if (!reason.empty()) GTEST_SKIP() << reason;
  for (const Kind& each : kKinds) {
    SCOPED_TRACE(each.name);
    Sweep run(each.kind, each.error);
    if (::testing::Test::HasFatalFailure()) return;
    const int64_t calls = run.calls();
    const int64_t step = part.most == 0 ? part.step : std::max(part.step, calls / part.most);
    int64_t faults = 0;
    for (int64_t n = part.first; n <= calls; n += step) faults += run.fail(n) ? 1 : 0;
    fmt::print("{}: {} calls in the mix, {} made to fail: {} survived, {} ended it\n", each.name,
               calls, faults, run.survived(), run.ended());
    if (calls > 10 * step) {
      EXPECT_GT(faults, 0);
    }
  }
}

}  // namespace facet::test
