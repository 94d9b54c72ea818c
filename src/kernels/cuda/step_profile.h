#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launch_watch.h"

namespace facet::cuda {

/// Takes steps apart: records a step as a CUDA graph with an event behind every launch, repeats it,
/// and reads from the events what each launch took. An event between two kernels keeps the second
/// from beginning before the first has ended, so that times add up; what the event itself takes is
/// measured in the same graph, and taken off.
class StepProfile final : private LaunchWatch {
 public:
  StepProfile() = default;
  ~StepProfile() { abandon(nullptr); }

  /// Between start() and finish() the steps framed by begin() and end() are taken apart.
  void start();
  bool started() const { return started_; }
  /// What all steps since start() came to.
  KernelProfile finish();

  /// Recording begins. What the step's ops allocate must be there already.
  void begin(cudaStream_t stream);
  bool recording() const { return recording_; }
  /// Recording ends; the step is run some times, and waited for.
  void end(cudaStream_t stream);
  /// Ends a recording that cannot be finished, if there is one.
  void abandon(cudaStream_t stream) noexcept;

 private:
  struct Launch {
    const char* kernel = nullptr;
    Traffic traffic;
  };

  void launched(cudaStream_t stream, const char* kernel, const Traffic& traffic) override;
  void mark(cudaStream_t stream);
  void repeat(cudaGraphExec_t graph, cudaStream_t stream);
  void add(const Launch& launch, double microseconds);

  bool started_ = false;
  bool recording_ = false;
  std::vector<std::unique_ptr<Event>> events_;  // as many as the longest step had
  size_t marks_ = 0;
  std::vector<Launch> launches_;
  KernelProfile profile_;
  int64_t steps_ = 0;
};

}  // namespace facet::cuda
