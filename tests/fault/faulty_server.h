#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "tests/e2e/server.h"
#include "tests/fault/faults.h"

namespace facet::test {

/// A server with answers written in advance (tests/fake/scripted_server.cpp) that the test may make
/// fail. It may die; everything here copes with that.
class FaultyServer {
 public:
  explicit FaultyServer(const Faults& faults);
  /// Any server that logs "listening url=…" as `facet serve` does; waits for its model.
  FaultyServer(const std::string& program,
               const std::vector<std::string>& arguments,
               const std::vector<std::string>& environment);
  ~FaultyServer();
  FaultyServer(const FaultyServer&) = delete;
  FaultyServer& operator=(const FaultyServer&) = delete;

  /// One request on a connection of its own; status 0 if no whole answer came.
  HttpAnswer request(std::string_view method, std::string_view path, std::string_view body = {});
  /// Nobody listens: nullopt.
  std::optional<Wire> connect() const { return Wire::connect(port_); }
  bool alive();
  /// Waits until nothing runs and all connections are closed; false if it does not come to that in
  /// ten seconds.
  bool becomes_idle();
  /// Pages that are free or can be, of each group, as text.
  std::string free_pages();
  int64_t descriptors() const;

  /// Waits up to `seconds` for its end: the exit code, or -signal; nullopt if it goes on.
  std::optional<int> ended(double seconds);
  std::string log() const;

 private:
  void wait_until_ready();

  TempDir dir_;
  pid_t child_ = -1;
  std::optional<int> end_;
  int port_ = 0;
};

/// Does a program that ended so say why: a documented exit code for want of memory or a fault of
/// the engine, and one line "facet: …"? Empty if so, else what is wrong.
std::string fault_of_exit(int exit_code, const std::string& log);

}  // namespace facet::test
