#include "base/worker_pool.h"

#include <algorithm>
#include <chrono>
#include <sched.h>
#include <utility>

#include "base/cgroup.h"
#include "base/check.h"

namespace facet {
namespace {

/// How long an idle worker polls before it sleeps: longer than the gap between two ops of a step,
/// far shorter than the gap between two requests.
constexpr auto kSpin = std::chrono::microseconds(50);

/// A thread beyond what a quota permits would be stopped in mid-step while the others wait for it.
int32_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  const double cores = std::min(static_cast<double>(CPU_COUNT(&set)), cgroup_limits().cores);
  return std::max(1, static_cast<int32_t>(cores));
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

WorkerPool::WorkerPool(int32_t threads) {
  if (threads <= 0) threads = usable_cores();
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int32_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (...) {
    stop();  // those that were started
    throw;
  }
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  stop_.store(true);
  {
    const std::lock_guard lock(mu_);
    state_.fetch_add(kOneGeneration);
  }
  wake_.notify_all();
}

void WorkerPool::run_pieces(const Job& job) {
  try {
    for (;;) {
      const int64_t begin = next_.fetch_add(job.grain, std::memory_order_relaxed);
      if (begin >= job.count) return;
      (*job.body)(begin, std::min(begin + job.grain, job.count));
    }
  } catch (...) {
    next_.store(job.count, std::memory_order_relaxed);
    const std::lock_guard lock(mu_);
    if (!fault_) fault_ = std::current_exception();
  }
}

void WorkerPool::parallel_for(int64_t count, int64_t grain, RangeBody body) {
  CHECK(grain > 0, "grain {}", grain);
  if (count <= 0) return;
  if (workers_.empty() || count <= grain) {
    body(0, count);
    return;
  }
  job_ = {&body, count, grain};
  next_.store(0, std::memory_order_relaxed);
  left_.store(0, std::memory_order_relaxed);
  bool someone_sleeps = false;
  {
    const std::lock_guard lock(mu_);
    const uint64_t before = state_.load(std::memory_order_relaxed);
    state_.store((before | (kOneGeneration - 1)) + 1, std::memory_order_release);
    someone_sleeps = sleeping_ > 0;
  }
  if (someone_sleeps) wake_.notify_all();
  run_pieces(job_);
  // Only those who joined are waited for: a worker that the system has put aside before it began
  // (another thread runs on its core) must not hold up a job that is done.
  const uint64_t joined = state_.fetch_or(kClosed, std::memory_order_acq_rel) & kJoinedMask;
  for (int32_t polls = 0; left_.load(std::memory_order_acquire) < joined; ++polls) {
    if (polls < 2000) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
  std::exception_ptr fault;
  {
    const std::lock_guard lock(mu_);
    fault = std::exchange(fault_, nullptr);
  }
  if (fault) std::rethrow_exception(fault);
}

bool WorkerPool::join(uint64_t& seen) {
  uint64_t state = state_.load(std::memory_order_acquire);
  for (;;) {
    seen = state & kGenerationMask;
    if ((state & kClosed) != 0) return false;
    // Fails when somebody else joined, the job was closed or another one began.
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) return true;
  }
}

void WorkerPool::work() {
  uint64_t seen = 0;
  const auto another = [&] {
    return (state_.load(std::memory_order_acquire) & kGenerationMask) != seen;
  };
  for (;;) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    int32_t polls = 0;
    while (!another()) {
      relax();
      if (++polls % 64 == 0 && std::chrono::steady_clock::now() > until) {
        std::unique_lock lock(mu_);
        ++sleeping_;
        wake_.wait(lock, another);
        --sleeping_;
      }
    }
    // stop_ is asked after `seen` was read: asked before, a stop between the two would be taken for
    // seen and slept through.
    if (join(seen)) {
      run_pieces(job_);
      left_.fetch_add(1, std::memory_order_release);
    } else if (stop_.load()) {
      return;
    }
  }
}

}  // namespace facet
