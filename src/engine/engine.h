#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "engine/engine_meters.h"
#include "engine/request.h"
#include "kernels/backend.h"
#include "model/model.h"
#include "tensor/dtype.h"

namespace facet {

/// Names a request that was taken, for as long as the engine lives.
enum class RequestHandle : uint64_t {};

/// Why a request was not taken.
enum class Refusal {
  kQueueFull,        ///< EngineLimits::max_queue requests wait
  kQueueTokensFull,  ///< with this one more than max_queue_tokens prompt tokens would wait
  kTooLong,          ///< prompt and max_tokens exceed max_model_len: it could never finish
  kDraining,
  kFailed,
};

enum class ScheduleOrder {
  kFcfs,      ///< as they came
  kPriority,  ///< lower Request::priority first; each unit is worth ten seconds of waiting
};

enum class PrefixCaching { kOff, kOn };

struct EngineOptions {
  DType kv_dtype = DType::kBF16;
  int32_t page_size = 64;      ///< positions
  int64_t kv_bytes = 0;        ///< for keys and values; split among the KV groups by plan_pages()
  std::vector<int32_t> pages;  ///< pages of each KV group; if given, kv_bytes does not count
  int32_t max_model_len = 0;   ///< 0: as the model and the pages permit
  int32_t max_running = 64;    ///< sequences; fewer if the model's steps have fewer logit rows
  int32_t max_queue = 8192;
  int64_t max_queue_tokens = int64_t{1} << 24;
  int32_t prefill_chunk = 512;  ///< prompt rows of a step; fewer if the model's steps are smaller
  /// Milliseconds that the prompt rows of a step may take beside decodes, however short those are;
  /// 0: they get a share of the decodes' time. See StepCosts.
  int32_t unnoticed_ms = 0;
  PrefixCaching prefix_caching = PrefixCaching::kOn;
  /// Positions between the places of a long prompt from which later requests can go on, besides its
  /// end (performance-notes 6); rounded down to whole pages.
  int32_t snapshot_positions = 2048;
  ScheduleOrder schedule = ScheduleOrder::kFcfs;
};

/// Fixed after construction.
struct EngineLimits {
  int32_t max_model_len = 0;     ///< tokens of one sequence, prompt and answer: model, option and
                                 ///< pages permitting
  int32_t max_running = 0;       ///< sequences in a step
  int32_t max_queue = 0;         ///< requests waiting
  int64_t max_queue_tokens = 0;  ///< prompt tokens waiting
  int32_t vocab_size = 0;
  int32_t prefill_chunk = 0;
};

/// A snapshot; counters rise from 0.
struct EngineStatus {
  int32_t running = 0;  ///< requests that have begun and not ended
  int32_t waiting = 0;  ///< requests that have not begun
  int64_t steps = 0;
  int64_t prompt_tokens = 0;   ///< of requests that began, cached ones included
  int64_t queried_tokens = 0;  ///< of these, looked for in the prefix cache
  int64_t cached_tokens = 0;   ///< of these, taken from it
  int64_t generated_tokens = 0;
  int64_t preemptions = 0;
  int64_t finished = 0;  ///< requests, aborted ones included
  int64_t aborted = 0;   ///< requests whose last choice ended with kAborted
  struct Group {
    int32_t pages = 0;
    int32_t free = 0;
    int32_t cached = 0;  ///< held by the prefix cache alone: given back when needed
    int32_t window = 0;  ///< positions that a row of these layers sees; 0: all

    int32_t unused() const { return free + cached; }
    double usage() const { return pages > 0 ? 1.0 - static_cast<double>(unused()) / pages : 0; }
  };
  std::vector<Group> groups;                        ///< by KV group
  std::chrono::steady_clock::time_point last_step;  ///< the last step, or the last look around when
                                                    ///< idle: no older than a second in good health
  bool failed = false;  ///< a step threw; every request ended with kError, new ones are refused

  /// The fullest group's share of pages in use, from 0 to 1.
  double page_usage() const;
};

/// Continuous batching: any number of requests in, their tokens out, over one model. README.md of
/// this folder is the contract of ownership, invariants and threads.
class Engine {
 public:
  /// Starts the engine's threads, which alone use `model` and `backend` from now on; both must
  /// outlive it. Throws Error{kOutOfMemory} if the pages do not fit or are too few for any
  /// sequence, Error{kUsage} for an option out of range.
  Engine(Model& model, Backend& backend, const EngineOptions& options);
  /// Ends what is left with kAborted.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Any thread. What is taken can finish, and its sink gets exactly one finish per choice. Throws
  /// Error{kUsage} or Error{kBadInput} naming a field out of range.
  std::variant<RequestHandle, Refusal> submit(Request request);
  /// Any thread. Within one step every choice, or that choice, ends with kAborted. Unknown and
  /// ended ones are ignored.
  void cancel(RequestHandle handle);
  void cancel(RequestHandle handle, int32_t choice);
  /// Any thread. New requests are refused from now on.
  void drain();
  /// Any thread. Nothing waits or runs.
  bool idle() const;
  /// Any thread, waits for the engine thread. Drops the cached pages; false, and nothing is
  /// dropped, if requests wait or run.
  bool flush_prefix_cache();
  /// The same without waiting: the engine thread calls `done`, which must not block.
  void flush_prefix_cache(std::function<void(bool)> done);
  const EngineLimits& limits() const;
  /// Any thread. Of the last turn; a request's end is in it before its sink hears of it.
  EngineStatus status() const;
  /// Any thread may read them.
  const EngineMeters& meters() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet
