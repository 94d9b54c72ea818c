#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "tensor/buffer.h"

namespace facet::cuda {

/// Memory of the GPU. Throws Error{kOutOfMemory} with what was needed and what is there.
const Buffer::Allocator& device_allocator();

/// The same without zeroing, for what is written before it is read.
Buffer device_buffer(int64_t bytes);

/// Memory of the host that the GPU reads and writes directly. Move-only.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(int64_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

/// Owns an event.
class Event {
 public:
  enum class Timing { kNo, kYes };
  explicit Event(Timing timing = Timing::kNo);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) const;
  /// To be called while the stream is captured: each run of the graph records the event anew.
  void record_in_graph(cudaStream_t stream) const;
  /// Both must have been made with Timing::kYes, been recorded and have happened.
  double microseconds_since(const Event& earlier) const;
  /// Waits for what was recorded; at once if nothing was.
  void wait() const;

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace facet::cuda
