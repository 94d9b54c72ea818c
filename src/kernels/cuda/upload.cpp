#include "kernels/cuda/upload.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/worker_pool.h"

namespace facet::cuda {
namespace {

constexpr int64_t kSlotBytes = int64_t{64} << 20;
constexpr size_t kSlots = 3;
constexpr int64_t kGrain = int64_t{1} << 20;  // what a thread copies at a time

struct Slot {
  PinnedBuffer memory;
  Event free;
};

/// Owns a stream.
struct Stream {
  Stream() { check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream"); }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t stream = nullptr;
};

}  // namespace

void Upload::add(const void* host, int64_t bytes) {
  const auto [at, is_new] = index_.emplace(host, pieces_.size());
  if (!is_new) {
    const Piece& known = pieces_[at->second];
    CHECK(bytes <= known.bytes, "{} bytes where {} were known", bytes, known.bytes);
    return;
  }
  pieces_.push_back({static_cast<const std::byte*>(host), bytes, bytes_});
  bytes_ += round_up(bytes, Buffer::kAlignment);
}

int64_t Upload::offset(const void* host) const { return pieces_[index_.at(host)].offset; }

Buffer Upload::run(const OnProgress& on_progress) {
  Buffer block = device_buffer(bytes_);
  const Stream copies;
  std::array<Slot, kSlots> ring;
  WorkerPool pool;
  size_t first = 0;  // piece that the chunk begins in
  for (int64_t begin = 0, turn = 0; begin < bytes_; begin += kSlotBytes, ++turn) {
    const int64_t end = std::min(begin + kSlotBytes, bytes_);
    Slot& slot = ring[static_cast<size_t>(turn) % kSlots];
    if (slot.memory.data() == nullptr) slot.memory = PinnedBuffer(std::min(kSlotBytes, bytes_));
    slot.free.wait();
    while (first + 1 < pieces_.size() && pieces_[first + 1].offset <= begin) ++first;
    const int64_t grains = ceil_div(end - begin, kGrain);
    pool.parallel_for(grains, 1, [&](int64_t from, int64_t to) {
      const int64_t low = begin + from * kGrain;
      const int64_t high = std::min(begin + to * kGrain, end);
      auto piece = std::upper_bound(pieces_.begin() + static_cast<std::ptrdiff_t>(first),
                                    pieces_.end(), low,
                                    [](int64_t at, const Piece& p) { return at < p.offset; }) -
                   1;
      for (; piece != pieces_.end() && piece->offset < high; ++piece) {
        const int64_t a = std::max(low, piece->offset);
        const int64_t b = std::min(high, piece->offset + piece->bytes);
        if (a < b)
          std::memcpy(slot.memory.data() + (a - begin), piece->host + (a - piece->offset),
                      static_cast<size_t>(b - a));
      }
    });
    check(cudaMemcpyAsync(block.data() + begin, slot.memory.data(),
                          static_cast<size_t>(end - begin), cudaMemcpyHostToDevice, copies.stream),
          "the weights' copy");
    slot.free.record(copies.stream);
    if (on_progress) on_progress(end, bytes_);
  }
  check(cudaStreamSynchronize(copies.stream), "the weights' copy");
  return block;
}

}  // namespace facet::cuda
