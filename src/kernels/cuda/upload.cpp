#include "kernels/cuda/upload.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace facet::cuda {
namespace {

constexpr int64_t kGrain = int64_t{1} << 20;  // what a thread copies at a time

}  // namespace

UploadRing::UploadRing(int64_t slot_bytes) : slot_bytes_(slot_bytes) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
}

UploadRing::~UploadRing() {
  cudaStreamSynchronize(stream_);  // a fault was told where it was met
  cudaStreamDestroy(stream_);
}

std::byte* UploadRing::take() {
  turn_ = (turn_ + 1) % kSlots;
  Slot& slot = slots_[turn_];
  if (slot.memory.data() == nullptr) slot.memory = PinnedBuffer(slot_bytes_);
  slot.free.wait();
  return slot.memory.data();
}

void UploadRing::send(std::byte* to, int64_t bytes) {
  const Slot& slot = slots_[turn_];
  check(cudaMemcpyAsync(to, slot.memory.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                        stream_),
        "a copy to the GPU");
  slot.free.record(stream_);
}

void UploadRing::finish() const { check(cudaStreamSynchronize(stream_), "a copy to the GPU"); }

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

void Upload::gather(std::byte* to, int64_t low, int64_t high) const {
  const auto behind = std::upper_bound(pieces_.begin(), pieces_.end(), low,
                                       [](int64_t at, const Piece& p) { return at < p.offset; });
  for (auto piece = behind - 1; piece != pieces_.end() && piece->offset < high; ++piece) {
    const int64_t begin = std::max(low, piece->offset);
    const int64_t end = std::min(high, piece->offset + piece->bytes);
    if (begin >= end) continue;
    std::memcpy(to + (begin - low), piece->host + (begin - piece->offset),
                static_cast<size_t>(end - begin));
  }
}

Buffer Upload::run(UploadRing& ring, const OnBytes& on_bytes) const {
  Buffer block = device_buffer(bytes_);
  for (int64_t begin = 0; begin < bytes_; begin += ring.slot_bytes()) {
    const int64_t count = std::min(ring.slot_bytes(), bytes_ - begin);
    std::byte* slot = ring.take();
    ring.pool().parallel_for(ceil_div(count, kGrain), 1, [&](int64_t from, int64_t to) {
      gather(slot + from * kGrain, begin + from * kGrain, begin + std::min(to * kGrain, count));
    });
    ring.send(block.data() + begin, count);
    if (on_bytes) on_bytes(count);
  }
  ring.finish();
  return block;
}

}  // namespace facet::cuda
