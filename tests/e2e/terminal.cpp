#include "tests/e2e/terminal.h"

#include <array>
#include <chrono>
#include <csignal>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/process.h"

namespace facet::test {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

}  // namespace

Terminal::Terminal(const std::vector<std::string>& arguments) {
  winsize size{};
  size.ws_row = 50;
  size.ws_col = 500;  // wide: the line editor redraws lines that do not fit
  child_ = forkpty(&fd_, nullptr, nullptr, &size);
  if (child_ == 0) {
    setenv("TERM", "dumb", 1);
    std::vector<char*> argv = {const_cast<char*>(facet_program().c_str())};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(facet_program().c_str(), argv.data());
    _exit(127);
  }
}

Terminal::~Terminal() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  close(fd_);
}

void Terminal::type(const std::string& keys) {
  ASSERT_EQ(write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

Terminal::Came Terminal::read_more(int timeout_ms) {
  pollfd ready = {fd_, POLLIN, 0};
  if (poll(&ready, 1, timeout_ms) <= 0) return Came::kNothing;
  std::array<char, 4096> bytes{};
  const ssize_t got = read(fd_, bytes.data(), bytes.size());
  if (got <= 0) return Came::kEnd;
  unread_.append(bytes.data(), static_cast<size_t>(got));
  return Came::kText;
}

std::string Terminal::read_until(const std::string& text) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const size_t at = unread_.find(text);
    if (at != std::string::npos) {
      std::string seen = unread_.substr(0, at + text.size());
      unread_.erase(0, at + text.size());
      return seen;
    }
    if (std::chrono::steady_clock::now() > end || read_more(100) == Came::kEnd) {
      ADD_FAILURE() << "'" << text << "' did not come; what came: " << unread_;
      return {};
    }
  }
}

int Terminal::wait() {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  int status = 0;
  while (waitpid(child_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      ADD_FAILURE() << "the program does not end";
      return -1;
    }
    read_more(20);
  }
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace facet::test
