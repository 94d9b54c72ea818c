#include "kernels/cuda/device_memory.h"

#include <atomic>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "kernels/gpu_fault.h"

namespace facet::cuda {
namespace {

std::atomic<int64_t> held = 0;  // bytes that this process has allocated

void* allocate_raw(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t result = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (result == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is told here
    size_t free = 0;
    size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "free memory of the GPU");
    const DeviceMemory memory = {static_cast<int64_t>(free), static_cast<int64_t>(total)};
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("{} more are needed, the GPU has {}", human_bytes(bytes),
                            describe_memory(memory, held)),
                "memory of the GPU");
  }
  check(result, "memory of the GPU");
  held += bytes;
  return data;
}

void* allocate(int64_t bytes) {
  void* data = allocate_raw(bytes);
  check(cudaMemset(data, 0, static_cast<size_t>(bytes)), "memory of the GPU");
  return data;
}

// After a fault of the GPU all calls fail; the fault was told where it was met.
void release(void* data, int64_t bytes) noexcept {
  cudaFree(data);
  held -= bytes;
}

void copy(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpy(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault), "a copy");
  check(cudaStreamSynchronize(nullptr), "a copy");  // copies within the device return early
}

constexpr Buffer::Allocator kZeroed = {allocate, release, copy, Device::kCuda};
constexpr Buffer::Allocator kRaw = {allocate_raw, release, copy, Device::kCuda};

}  // namespace

const Buffer::Allocator& device_allocator() { return kZeroed; }
Buffer device_buffer(int64_t bytes) { return {bytes, kRaw}; }

PinnedBuffer::PinnedBuffer(int64_t bytes) : bytes_(bytes) {
  void* data = nullptr;
  check(cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault), "pinned memory");
  data_ = static_cast<std::byte*>(data);
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Event::Event(Timing timing) {
  const unsigned flags = timing == Timing::kYes ? cudaEventDefault : cudaEventDisableTiming;
  check(cudaEventCreateWithFlags(&event_, flags), "an event");
}
Event::~Event() { cudaEventDestroy(event_); }
void Event::record(cudaStream_t stream) const {
  check(cudaEventRecord(event_, stream), "an event");
}
void Event::record_in_graph(cudaStream_t stream) const {
  check(cudaEventRecordWithFlags(event_, stream, cudaEventRecordExternal), "an event");
}
double Event::microseconds_since(const Event& earlier) const {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, earlier.event_, event_), "a measurement");
  return static_cast<double>(ms) * 1e3;
}
void Event::wait() const { check(cudaEventSynchronize(event_), "waiting for the GPU"); }

}  // namespace facet::cuda
