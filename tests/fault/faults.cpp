#include "tests/fault/faults.h"

#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace facet::test {
namespace {

constexpr int64_t kNever = int64_t{1} << 62;

}  // namespace

Faults::Faults() {
  dir_.write("faults", std::string(sizeof(FaultState), '\0'));
  const int fd = open(dir_.path("faults").c_str(), O_RDWR | O_CLOEXEC);
  void* at = mmap(nullptr, sizeof(FaultState), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) std::abort();
  close(fd);
  state_ = new (at) FaultState{};
}

Faults::~Faults() { munmap(state_, sizeof(FaultState)); }

void Faults::arm(FaultKind kind, int64_t n, int error) {
  state_->error = error;
  state_->left = n;
  state_->fired = 0;
  state_->kind = kind;
}

bool Faults::fires() const {
  for (int i = 0; i < 1000; ++i) {
    if (state_->fired.load() > 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

int64_t Faults::disarm() {
  state_->kind = FaultKind::kNone;
  return state_->fired;
}

void Faults::count(FaultKind kind) { arm(kind, kNever); }

int64_t Faults::counted() {
  state_->kind = FaultKind::kNone;
  return kNever - state_->left;
}

std::vector<std::string> Faults::environment() const {
  return {std::string(kFaultVariable) + "=" + dir_.path("faults"), "LD_PRELOAD=" FACET_FAULT_SHIM};
}

std::string no_faults_reason() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "a sanitizer has the allocator";
#else
  return {};
#endif
}

}  // namespace facet::test
