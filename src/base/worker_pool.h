#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace facet {

/// A non-owning reference to a callable `void(int64_t begin, int64_t end)`; the callable must
/// outlive the call it is passed to.
class RangeBody {
 public:
  template <typename Body>
  requires(!std::is_same_v<std::remove_cvref_t<Body>, RangeBody>)
      // NOLINTNEXTLINE(google-explicit-constructor): a lambda at the call site is the whole point
      RangeBody(const Body& body)
      : object_(&body), call_([](const void* object, int64_t begin, int64_t end) {
          (*static_cast<const Body*>(object))(begin, end);
        }) {}

  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  const void* object_;
  void (*call_)(const void*, int64_t, int64_t);
};

/// A fixed set of threads that share the pieces of one range at a time. Which thread takes which
/// piece is not fixed, so a body must compute each element alone and the same way whoever runs it.
class WorkerPool {
 public:
  /// `threads` in all, the caller's included; 0 means one per core this process may use.
  explicit WorkerPool(int32_t threads = 0);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  /// Calls `body(begin, end)` for pieces of at most `grain` that cover [0, count), on all threads,
  /// and returns when the last piece is done. The caller works too. Not to be nested or called by
  /// two threads at once. What a body throws comes out of here once no thread is in it
  /// any more; pieces may then be left out.
  void parallel_for(int64_t count, int64_t grain, RangeBody body);

 private:
  struct Job {
    const RangeBody* body = nullptr;
    int64_t count = 0;
    int64_t grain = 1;
  };

  // Parts of state_.
  static constexpr uint64_t kJoinedMask = 0x7fff;
  static constexpr uint64_t kClosed = 0x8000;
  static constexpr uint64_t kOneGeneration = 0x10000;
  static constexpr uint64_t kGenerationMask = ~(kOneGeneration - 1);

  void work();
  /// Takes part in the job that state_ speaks of, unless it is closed; `seen` is its generation.
  bool join(uint64_t& seen);
  void run_pieces(const Job& job);
  void stop();

  // The number of the job, whether it is closed, and how many workers have joined it.
  std::atomic<uint64_t> state_{kClosed};
  std::atomic<int64_t> next_{0};   // first element nobody has taken
  std::atomic<uint64_t> left_{0};  // workers that have joined the job and are done with it
  std::atomic<bool> stop_{false};
  Job job_;  // written by the caller while the last job is closed and nobody is in it

  std::mutex mu_;
  std::condition_variable wake_;
  int32_t sleeping_ = 0;      // guarded by mu_
  std::exception_ptr fault_;  // of the current job, the first one; guarded by mu_

  std::vector<std::jthread> workers_;  // constant after construction; last: they use the others
};

}  // namespace facet
