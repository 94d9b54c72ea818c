#include "kernels/cuda/step_profile.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "kernels/cuda/empty_kernel.h"
#include "kernels/cuda/step_graphs.h"

namespace facet::cuda {
namespace {

/// Events with nothing between them at the beginning of a step, for what an event takes.
constexpr size_t kEmptyPairs = 8;
/// Launches of a kernel that does nothing, for what a launch takes.
constexpr size_t kEmptyLaunches = 8;
constexpr size_t kWarmUps = 2;
constexpr size_t kRepeats = 20;

thread_local LaunchWatch* g_current = nullptr;

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

LaunchWatch* LaunchWatch::current() { return g_current; }
void LaunchWatch::set_current(LaunchWatch* watch) { g_current = watch; }

void StepProfile::start() {
  started_ = true;
  profile_ = {};
  steps_ = 0;
}

KernelProfile StepProfile::finish() {
  started_ = false;
  if (steps_ > 0) profile_.empty_launch_us /= static_cast<double>(steps_);
  return std::exchange(profile_, {});
}

void StepProfile::begin(cudaStream_t stream) {
  CHECK(started_ && !recording_, "a step is taken apart out of turn");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step");
  recording_ = true;
  marks_ = 0;
  launches_.clear();
  for (size_t i = 0; i <= kEmptyPairs; ++i) mark(stream);
  set_current(this);
  for (size_t i = 0; i < kEmptyLaunches; ++i) empty_launch(stream);
}

void StepProfile::mark(cudaStream_t stream) {
  if (marks_ == events_.size()) events_.push_back(std::make_unique<Event>(Event::Timing::kYes));
  events_[marks_++]->record_in_graph(stream);
}

void StepProfile::launched(cudaStream_t stream, const char* kernel, const Traffic& traffic) {
  launches_.push_back({kernel, traffic});
  mark(stream);
}

void StepProfile::end(cudaStream_t stream) {
  set_current(nullptr);
  recording_ = false;
  const std::unique_ptr<CUgraphExec_st, decltype(&cudaGraphExecDestroy)> made(
      end_recording(stream), &cudaGraphExecDestroy);
  repeat(made.get(), stream);
}

void StepProfile::repeat(cudaGraphExec_t graph, cudaStream_t stream) {
  std::vector<std::vector<double>> times(marks_ - 1);
  for (size_t run = 0; run < kWarmUps + kRepeats; ++run) {
    check(cudaGraphLaunch(graph, stream), "a step's graph");
    check(cudaStreamSynchronize(stream), "a step");
    if (run < kWarmUps) continue;
    for (size_t i = 0; i < times.size(); ++i)
      times[i].push_back(events_[i + 1]->microseconds_since(*events_[i]));
  }
  std::vector<double> pairs;
  for (size_t i = 0; i < kEmptyPairs; ++i) pairs.push_back(median(times[i]));
  const double event = median(pairs);
  std::vector<double> empty;
  for (size_t i = 0; i < launches_.size(); ++i) {
    const double taken = std::max(0.0, median(times[kEmptyPairs + i]) - event);
    if (i < kEmptyLaunches) {
      empty.push_back(taken);
    } else {
      add(launches_[i], taken);
    }
  }
  profile_.empty_launch_us += median(empty);
  ++steps_;
}

void StepProfile::add(const Launch& launch, double microseconds) {
  const std::string_view name = launch.kernel;
  const auto same = [&](const KernelTime& row) {
    return row.kernel == name && row.bytes == launch.traffic.bytes * row.calls &&
           row.expert_bytes == launch.traffic.expert_bytes * row.calls;
  };
  auto row = std::find_if(profile_.kernels.begin(), profile_.kernels.end(), same);
  if (row == profile_.kernels.end()) {
    profile_.kernels.push_back({.kernel = std::string(name)});
    row = profile_.kernels.end() - 1;
  }
  ++row->calls;
  row->bytes += launch.traffic.bytes;
  row->expert_bytes += launch.traffic.expert_bytes;
  row->microseconds += microseconds;
}

void StepProfile::abandon(cudaStream_t stream) noexcept {
  if (!recording_) return;
  set_current(nullptr);
  recording_ = false;
  drop_recording(stream);
}

}  // namespace facet::cuda
