#include "tests/fault/faulty_server.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "tests/e2e/process.h"

namespace facet::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPoll = std::chrono::milliseconds(2);

/// After a question that asks for a tool, a call of it; after anything else, a sentence.
constexpr const char* kScript = R"([
  {"after": "", "say": "The fox went home. Then it was night, and all was still."},
  {"after": "tool!<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
   "say": "<|tool_call>call:f{n:1,s:<|\"|>x<|\"|>}<tool_call|><|tool_response>"}
])";

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

FaultyServer::FaultyServer(const Faults& faults) {
  dir_.write("script.json", kScript);
  const std::vector<std::string> environment = faults.environment();
  const std::string file = environment.front().substr(environment.front().find('=') + 1);
  child_ = start_program(FACET_SCRIPTED_SERVER, {dir_.path("script.json"), "--faults", file},
                         dir_.path("log"), environment);
  wait_until_ready();
}

FaultyServer::FaultyServer(const std::string& program,
                           const std::vector<std::string>& arguments,
                           const std::vector<std::string>& environment) {
  child_ = start_program(program, arguments, dir_.path("log"), environment);
  wait_until_ready();
}

void FaultyServer::wait_until_ready() {
  const auto deadline = Clock::now() + std::chrono::seconds(20);
  const std::string mark = "listening url=http://127.0.0.1:";
  while (Clock::now() < deadline && alive()) {
    const std::string text = log();
    const size_t at = text.find(mark);
    if (at != std::string::npos && text.find('\n', at) != std::string::npos) {
      port_ = std::stoi(text.substr(at + mark.size()));
      if (request("GET", "/health").status == 200) return;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

FaultyServer::~FaultyServer() {
  if (end_ || child_ < 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

HttpAnswer FaultyServer::request(std::string_view method,
                                 std::string_view path,
                                 std::string_view body) {
  std::optional<Wire> wire = connect();
  if (!wire) return {};
  wire->send(http_request(method, path, body, "Connection: close\r\n"));
  return wire->read_answer();
}

bool FaultyServer::alive() { return !ended(0); }

std::optional<int> FaultyServer::ended(double seconds) {
  const auto deadline = Clock::now() + milliseconds(seconds);
  while (!end_) {
    int status = 0;
    if (waitpid(child_, &status, WNOHANG) == child_)
      end_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (end_ || Clock::now() >= deadline) break;
    std::this_thread::sleep_for(kPoll);
  }
  return end_;
}

std::string FaultyServer::log() const {
  return std::filesystem::exists(dir_.path("log")) ? read_text(dir_.path("log")) : std::string();
}

bool FaultyServer::becomes_idle() {
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (Clock::now() < deadline && alive()) {
    const HttpAnswer answer = request("GET", "/health/ready");
    if (answer.status == 200) {
      const boost::json::value ready = answer.json();
      if (ready.at("running").as_int64() + ready.at("waiting").as_int64() == 0) return true;
    }
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

std::string FaultyServer::free_pages() {
  const HttpAnswer answer = request("GET", "/health/ready");
  return answer.status == 200 ? boost::json::serialize(answer.json().at("free_pages")) : "";
}

int64_t FaultyServer::descriptors() const {
  std::error_code gone;
  const std::filesystem::directory_iterator all(fmt::format("/proc/{}/fd", child_), gone);
  return gone ? -1 : std::distance(begin(all), end(all));
}

std::string fault_of_exit(int exit_code, const std::string& log) {
  constexpr int kIo = 65;
  constexpr int kEngineFault = 70;
  constexpr int kOutOfMemory = 71;
  const std::set<int> documented = {kIo, kEngineFault, kOutOfMemory};
  if (!documented.contains(exit_code)) return fmt::format("exit code {}: {}", exit_code, log);
  int32_t lines = 0;
  std::istringstream in(log);
  for (std::string line; std::getline(in, line);) lines += line.starts_with("facet: ");
  if (lines != 1) return fmt::format("{} lines say why it ended: {}", lines, log);
  return {};
}

}  // namespace facet::test
