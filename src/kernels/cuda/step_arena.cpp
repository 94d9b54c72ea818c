#include "kernels/cuda/step_arena.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace facet::cuda {
namespace {

constexpr int64_t kAlignment = 64;  // integers
constexpr int64_t kLeastIntegers = int64_t{1} << 18;

static_assert(sizeof(PageId) == sizeof(int32_t));

/// For their place and size alone: not all of them are integers.
std::span<const int32_t> words_of(std::span<const DrawSpec> draws) {
  static_assert(sizeof(DrawSpec) % sizeof(int32_t) == 0);
  return {reinterpret_cast<const int32_t*>(draws.data()), draws.size_bytes() / sizeof(int32_t)};
}

}  // namespace

int32_t* StepArena::staged(int64_t offset) const {
  return reinterpret_cast<int32_t*>(staging_.data()) + offset;
}

const int32_t* StepArena::mirrored(int64_t offset) const {
  return reinterpret_cast<const int32_t*>(mirror_.data()) + offset;
}

/// Returns the integers that the step takes.
int64_t StepArena::lay_out(const StepInputs& inputs) {
  spans_.clear();
  groups_.clear();
  int64_t at = 0;
  const auto place = [&](std::vector<Section>& to, const void* host, int64_t count) {
    to.push_back({host, count, at});
    at += round_up(count, kAlignment);
  };
  for (const std::span<const int32_t> span :
       {inputs.ids, inputs.logit_rows, inputs.batch.positions, inputs.batch.sequence_of_row,
        words_of(inputs.draws)}) {
    place(spans_, span.data(), std::ssize(span));
  }
  for (const KvView& view : inputs.kv) {
    const void* host = view.page_tables.data();
    const bool known =
        std::ranges::any_of(groups_, [&](const Section& s) { return s.host == host; });
    if (!known) place(groups_, host, std::ssize(view.page_tables));
  }
  pages_ = at;
  for (const Section& group : groups_) {
    const auto* tables = static_cast<const std::span<const PageId>*>(group.host);
    for (int64_t s = 0; s < group.count; ++s) at += std::ssize(tables[s]);
  }
  return at;
}

void StepArena::fill() {
  for (const Section& span : spans_) {
    const auto bytes = static_cast<size_t>(span.count) * sizeof(int32_t);
    if (bytes > 0) std::memcpy(staged(span.offset), span.host, bytes);
  }
  int64_t at = 0;
  for (const Section& group : groups_) {
    const auto* tables = static_cast<const std::span<const PageId>*>(group.host);
    for (int64_t s = 0; s < group.count; ++s) {
      staged(group.offset)[s] = static_cast<int32_t>(at);
      std::ranges::transform(tables[s], staged(pages_ + at),
                             [](PageId id) { return to_index(id); });
      at += std::ssize(tables[s]);
    }
  }
}

bool StepArena::begin(const StepInputs& inputs, cudaStream_t stream) {
  const int64_t integers = lay_out(inputs);
  const int64_t bytes = integers * int64_t{sizeof(int32_t)};
  bool moved = false;
  copied_.wait();  // the last step's copy may still read the staging
  if (bytes > staging_.bytes()) {
    const int64_t room = std::max(kLeastIntegers, 2 * integers) * int64_t{sizeof(int32_t)};
    check(cudaStreamSynchronize(stream), "the last step");
    staging_ = PinnedBuffer(room);
    mirror_ = device_buffer(room);
    moved = true;
  }
  fill();
  longest_ = 0;
  for (const SequenceRows& s : inputs.batch.sequences)
    longest_ = std::max(longest_, s.first_position + s.rows);
  check(cudaMemcpyAsync(mirror_.data(), staging_.data(), static_cast<size_t>(bytes),
                        cudaMemcpyHostToDevice, stream),
        "the step's integers");
  copied_.record(stream);
  return moved;
}

const int32_t* StepArena::find_if_known(std::span<const int32_t> host) const {
  for (const Section& span : spans_) {
    const auto* begin = static_cast<const int32_t*>(span.host);
    if (begin == nullptr || host.data() < begin) continue;
    const int64_t offset = host.data() - begin;
    if (offset + std::ssize(host) <= span.count) return mirrored(span.offset + offset);
  }
  return nullptr;
}

const int32_t* StepArena::find(std::span<const int32_t> host, const char* op) const {
  const int32_t* device = find_if_known(host);
  CHECK(device != nullptr || host.empty(), "{}: {} integers that are no part of the step", op,
        host.size());
  return device;
}

const DrawSpec* StepArena::draws(std::span<const DrawSpec> host) const {
  return reinterpret_cast<const DrawSpec*>(find(words_of(host), "draws"));
}

StepTables StepArena::tables(const KvView& kv) const {
  for (const Section& group : groups_) {
    if (group.host == kv.page_tables.data()) return {mirrored(group.offset), mirrored(pages_)};
  }
  CHECK(false, "page tables that are no part of the step");
}

}  // namespace facet::cuda
