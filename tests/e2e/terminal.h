#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

namespace facet::test {

/// The built program on a terminal of its own, as a user at the keyboard has it.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& arguments);
  /// Ends the program if it still runs.
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& keys);
  /// Waits until `text` appears behind what earlier calls have returned, and returns all up to its
  /// end. A test failure after a minute.
  std::string read_until(const std::string& text);
  /// Waits for the program to end; its exit code, or -signal.
  int wait();

 private:
  enum class Came { kText, kNothing, kEnd };
  Came read_more(int timeout_ms);

  int fd_ = -1;
  pid_t child_ = -1;
  std::string unread_;
};

}  // namespace facet::test
