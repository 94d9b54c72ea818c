#include "kernels/cuda/step_graphs.h"

namespace facet::cuda {
namespace {

/// Makes that are kept: a graph of a large model takes some megabytes.
constexpr size_t kMostGraphs = 256;

}  // namespace

cudaGraphExec_t end_recording(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "recording a step");
  cudaGraphExec_t made = nullptr;
  const cudaError_t result = cudaGraphInstantiate(&made, graph, 0);
  cudaGraphDestroy(graph);
  check(result, "a step's graph");
  return made;
}

void drop_recording(cudaStream_t stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
}

StepGraphs::Mode StepGraphs::begin(const StepMake& make, cudaStream_t stream) {
  make_ = make;
  const auto known = graphs_.find(make);
  if (known == graphs_.end()) {
    if (graphs_.size() >= kMostGraphs) clear();
    graphs_.emplace(make, nullptr);
    mode_ = Mode::kPlain;
  } else if (known->second == nullptr) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step");
    mode_ = Mode::kRecording;
  } else {
    mode_ = Mode::kRepeating;
  }
  return mode_;
}

void StepGraphs::end(cudaStream_t stream) {
  if (mode_ == Mode::kRecording) {
    mode_ = Mode::kPlain;
    const cudaGraphExec_t made = end_recording(stream);
    graphs_[make_] = made;
    check(cudaGraphLaunch(made, stream), "a step's graph");
  } else if (mode_ == Mode::kRepeating) {
    mode_ = Mode::kPlain;
    check(cudaGraphLaunch(graphs_[make_], stream), "a step's graph");
  }
}

void StepGraphs::abandon(cudaStream_t stream) noexcept {
  if (mode_ == Mode::kRecording) drop_recording(stream);
  mode_ = Mode::kPlain;
}

void StepGraphs::clear() {
  for (auto& [make, graph] : graphs_) {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  graphs_.clear();
}

}  // namespace facet::cuda
