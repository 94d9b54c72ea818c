// Construction, and what frames a step: its beginning, its end, and the draw of its tokens. The
// other ops are in cuda_ops.cpp.

#include <algorithm>
#include <bit>
#include <fmt/core.h>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/text.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/draw.h"
#include "kernels/cuda/operands.h"
#include "kernels/cuda/peaks.h"
#include "kernels/cuda/plant_fault.h"
#include "kernels/cuda/top_logits.h"

namespace facet::cuda {
namespace {

/// What was found out about the GPU; of a failed call nothing stays behind.
GpuFacts find_facts() {
  GpuFacts facts;
  facts.build = CUDART_VERSION;
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess) facts.driver = driver;
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted == cudaSuccess) {
    facts.devices = count;
  } else {
    facts.count_error = cudaGetErrorString(counted);
    cudaGetLastError();  // it is told by the facts
  }
  if (facts.devices == 0) return facts;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  facts.name = properties.name;
  facts.capability = {properties.major, properties.minor};
  const cudaError_t used = cudaFree(nullptr);
  if (used != cudaSuccess) {
    facts.context_error = cudaGetErrorString(used);
    facts.taken = used == cudaErrorDevicesUnavailable || used == cudaErrorDeviceAlreadyInUse;
    cudaGetLastError();
    return facts;
  }
  facts.has_code = has_code_for_device();
  return facts;
}

/// A digest of where the caches of all layers lie: another cache may begin where an old one did.
uint64_t digest_of(std::span<const KvView> kv) {
  uint64_t digest = kv.size();
  const auto add = [&](uint64_t value) {
    digest = (digest ^ value) * 0x9e3779b97f4a7c15U;
    digest ^= digest >> 29;
  };
  for (const KvView& view : kv) {
    add(reinterpret_cast<uintptr_t>(view.k));
    add(reinterpret_cast<uintptr_t>(view.v));
    add(static_cast<uint64_t>(view.layout.page_size));
  }
  return digest;
}

}  // namespace

std::optional<std::string> unavailable() {
  static const std::optional<std::string> fault = find_gpu_fault(find_facts());
  return fault;
}

bool is_built() { return true; }

GpuSetup gpu_setup() {
  const auto fault = unavailable();
  CHECK(!fault, "{}", *fault);
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  const ComputeCapability device = {properties.major, properties.minor};
  return {device, properties.name, has_fp4_kernel(device)};
}

DeviceMemory device_memory() {
  if (unavailable()) return {};
  size_t free = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "free memory of the GPU");
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
  if (const auto fault = unavailable()) throw Error(ErrorCode::kDevice, *fault, "--backend cuda");
  return std::make_unique<CudaBackend>(options);
}

std::byte* Workspace::take(int64_t bytes, bool& moved) {
  moved = bytes > memory_.bytes();
  if (moved) {
    check(cudaDeviceSynchronize(), "the last step");  // it may still use the old one
    memory_ = Buffer();
    memory_ = device_buffer(bytes);
  }
  return memory_.data();
}

namespace {

GpuSetup setup_with(const KernelWishes& wishes) {
  GpuSetup setup = gpu_setup();
  setup.wishes = wishes;
  return setup;
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions& options)
    : options_(options), kernels_(setup_with(options.wishes)) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  description_ = fmt::format("cuda ({}, SM{}{}, {} multiprocessors, {})", properties.name,
                             properties.major, properties.minor, properties.multiProcessorCount,
                             human_bytes(static_cast<int64_t>(properties.totalGlobalMem)));
  check(cudaStreamCreate(&stream_), "a stream");
  experts_arrivals_ = Buffer((kExpertArrivals + 1) * int64_t{sizeof(int32_t)}, device_allocator());
  attention_arrivals_ = Buffer(kMostArrivals * int64_t{sizeof(int32_t)}, device_allocator());
}

CudaBackend::~CudaBackend() {
  graphs_.abandon(stream_);
  profile_.abandon(stream_);
  cudaStreamSynchronize(stream_);  // a fault was told where it was met
  cudaStreamDestroy(stream_);
}

void CudaBackend::forget_graphs() {
  CHECK(!graphs_.recording() && !profile_.recording(), "memory moved while a step is recorded");
  graphs_.clear();
}

std::byte* CudaBackend::workspace(Workspace& of, int64_t bytes) {
  bool moved = false;
  std::byte* data = of.take(bytes, moved);
  if (moved) forget_graphs();
  return data;
}

int64_t CudaBackend::load_bytes(const ModelOperands& operands) const {
  return WeightStore::bytes_of(operands, kernels_.setup());
}

void CudaBackend::load(const ModelOperands& operands) {
  forget_graphs();  // a new model may stand where an old one stood
  few_tokens_layers_.clear();
  few_tokens_words_ = Buffer();
  weights_.load(operands, kernels_.setup(), stream_);
}

bool CudaBackend::begin_step(const StepInputs& inputs) {
  graphs_.abandon(stream_);  // of a step that an error ended
  wanted_top_ = inputs.top_logits ? std::ssize(inputs.logit_rows) : 0;
  draws_ = inputs.draws;
  top_.clear();
  drawn_.clear();
  unwatched_step_ = !inputs.watched;
  late_choice_ = {};
  profile_.abandon(stream_);
  if (arena_.begin(inputs, stream_)) forget_graphs();
  if (profile_.started() && !inputs.watched) {
    profile_.begin(stream_);
    return true;
  }
  const Batch& batch = inputs.batch;
  const bool one_row_each = batch.rows() == std::ssize(batch.sequences);
  if (!options_.graphs || inputs.watched || !one_row_each || inputs.kv.empty()) return true;
  const StepMake make = {
      batch.rows(),
      std::ssize(inputs.logit_rows),
      inputs.top_logits,
      !inputs.draws.empty(),
      static_cast<int64_t>(std::bit_ceil(static_cast<uint32_t>(arena_.longest()))),
      digest_of(inputs.kv),
      inputs.ids.data()};
  return graphs_.begin(make, stream_) != StepGraphs::Mode::kRepeating;
}

void CudaBackend::select_top(TensorView logits) {
  const int64_t rows = logits.rows();
  std::byte* maxima = workspace(top_maxima_, top_workspace_bytes(rows));
  std::byte* out = workspace(top_rows_, rows * int64_t{sizeof(TopRow)});
  cuda::select_top(stream_, reinterpret_cast<TopRow*>(out), values(logits, "logits"), rows,
                   logits.shape()[1], maxima);
  if (draws_.empty()) return;
  CHECK(std::ssize(draws_) == rows, "{} draws for {} rows", draws_.size(), rows);
  std::byte* drawn = workspace(drawn_there_, rows * int64_t{sizeof(int32_t)});
  cuda::draw(stream_, reinterpret_cast<int32_t*>(drawn), reinterpret_cast<const TopRow*>(out),
             arena_.draws(draws_), rows);
}

/// Enqueues a copy to the host. `to` grows as needed.
void CudaBackend::bring(PinnedBuffer& to, const void* from, int64_t bytes) {
  if (to.bytes() < bytes) to = PinnedBuffer(bytes);
  if (bytes == 0) return;
  check(
      cudaMemcpyAsync(to.data(), from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
      "the step's result");
}

TensorView CudaBackend::end_step(TensorView result) {
  graphs_.end(stream_);
  unwatched_step_ = false;
  if (++steps_ == options_.fault_step) plant_illegal_access(stream_);
  if (profile_.recording()) profile_.end(stream_);
  if (wanted_top_ > 0) {
    bring_top();
    return {};
  }
  if (!result.empty()) bring(result_, result.data(), result.bytes());
  check(cudaStreamSynchronize(stream_), "a step");
  return {result_.data(), result.dtype(), result.shape()};
}

/// Waits for what select_top() found and drew. Where all rows were drawn, nobody asks for more.
void CudaBackend::bring_top() {
  const auto count = static_cast<size_t>(wanted_top_);
  const auto known = [](Workspace& of, int64_t bytes) {
    bool moved = false;
    const std::byte* data = of.take(bytes, moved);
    CHECK(!moved, "select_top() was not called");
    return data;
  };
  if (!draws_.empty()) {
    const int64_t bytes = wanted_top_ * int64_t{sizeof(int32_t)};
    bring(result_, known(drawn_there_, bytes), bytes);
    check(cudaStreamSynchronize(stream_), "a step");
    const auto* ids = reinterpret_cast<const int32_t*>(result_.data());
    drawn_.assign(ids, ids + count);
    if (std::ranges::none_of(drawn_, [](int32_t id) { return id < 0; })) {
      top_.assign(count, {.entries = {}, .finite = true});
      return;
    }
  }
  const int64_t bytes = wanted_top_ * int64_t{sizeof(TopRow)};
  bring(result_, known(top_rows_, bytes), bytes);
  check(cudaStreamSynchronize(stream_), "a step");
  const auto* rows = reinterpret_cast<const TopRow*>(result_.data());
  for (const TopRow& row : std::span(rows, count)) {
    const bool whole = row.count <= kTopRoom;
    top_.push_back(
        {std::span(row.entries, whole ? static_cast<size_t>(row.count) : 0), row.finite != 0});
  }
}

TensorView CudaBackend::fetch(TensorView rows) {
  bring(fetched_, rows.data(), rows.bytes());
  check(cudaStreamSynchronize(stream_), "logits");
  return {fetched_.data(), rows.dtype(), rows.shape()};
}

std::optional<KernelProfile> CudaBackend::profile(const std::function<void()>& steps) {
  profile_.start();
  try {
    steps();
  } catch (...) {
    profile_.abandon(stream_);
    profile_.finish();
    throw;
  }
  return profile_.finish();
}

}  // namespace facet::cuda
