#pragma once

#include <string>
#include <vector>

#include "tests/fault/fault_state.h"
#include "tests/support.h"

namespace facet::test {

/// Faults for programs that the test starts with environment().
class Faults {
 public:
  Faults();
  ~Faults();
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  /// From now on the `n`-th call of `kind`, from 1, fails: a system call with errno `error`.
  void arm(FaultKind kind, int64_t n, int error = 0);
  /// Waits until a call has failed; false if none does within ten seconds.
  bool fires() const;
  /// Nothing fails any more. How many calls did, 0 or 1?
  int64_t disarm();
  /// The calls of `kind` that a program makes between count() and counted(); none fails.
  void count(FaultKind kind);
  int64_t counted();

  std::vector<std::string> environment() const;

 private:
  TempDir dir_;
  FaultState* state_;
};

/// Why programs cannot be run with the shim in this build; empty if they can.
std::string no_faults_reason();

}  // namespace facet::test
