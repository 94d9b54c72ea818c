#pragma once

#include <compare>
#include <cstdint>
#include <map>

#include "kernels/backend.h"
#include "kernels/cuda/device.h"

namespace facet::cuda {

/// What the launches of a step follow from, contents apart: steps of one make enqueue the same.
struct StepMake {
  int64_t rows = 0;
  int64_t logit_rows = 0;
  bool top_logits = false;      // are selected
  bool draws = false;           // from them
  int64_t context = 0;          // a bound of all contexts: a power of two
  uint64_t cache = 0;           // a digest of where keys and values of all layers lie
  const void* model = nullptr;  // its own place for the step's ids
  auto operator<=>(const StepMake&) const = default;
};

/// Ends what `stream` records and makes it runnable; the caller destroys it.
cudaGraphExec_t end_recording(cudaStream_t stream);
/// Ends it and throws it away.
void drop_recording(cudaStream_t stream) noexcept;

/// Records steps in which each sequence has one row, and repeats them: one launch for hundreds. A
/// make is run plainly the first time, so that all memory it needs is there, recorded the second
/// time and repeated from then on.
class StepGraphs {
 public:
  ~StepGraphs() { clear(); }

  enum class Mode { kPlain, kRecording, kRepeating };
  /// Begins a step on `stream`; recording begins here.
  Mode begin(const StepMake& make, cudaStream_t stream);
  /// Ends the recording, and enqueues what was recorded, now or before. Nothing for a plain step.
  void end(cudaStream_t stream);
  /// Ends a recording that cannot be finished, if there is one.
  void abandon(cudaStream_t stream) noexcept;
  /// Forgets all: addresses that graphs hold are void. No step may be recording.
  void clear();
  bool recording() const { return mode_ == Mode::kRecording; }

 private:
  std::map<StepMake, cudaGraphExec_t> graphs_;  // null: seen once
  StepMake make_;
  Mode mode_ = Mode::kPlain;
};

}  // namespace facet::cuda
