#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_memory.h"

namespace facet::cuda {

/// The page tables of one KV group during a step.
struct StepTables {
  const int32_t* begin = nullptr;  // device, [S]
  const int32_t* pages = nullptr;  // device
};

/// The integers (and draws) of the current step on the device. They are laid out in pinned memory
/// and copied in one go to a mirror whose address stays: a graph captured in a step of the same
/// make (rows, sequences, logit rows, groups) finds those of later steps where it looks. Ops hand
/// in the host's spans and get the device's.
class StepArena {
 public:
  /// Lays the inputs out and enqueues their copy. True if the mirror has moved, so that what was
  /// captured before is void.
  bool begin(const StepInputs& inputs, cudaStream_t stream);

  /// Where a span of the step, or a part of one, stands on the device. CHECKs that it is one; `op`
  /// names the asker.
  const int32_t* find(std::span<const int32_t> host, const char* op) const;
  /// The same; nullptr if it is none.
  const int32_t* find_if_known(std::span<const int32_t> host) const;
  StepTables tables(const KvView& kv) const;
  /// StepInputs::draws on the device.
  const DrawSpec* draws(std::span<const DrawSpec> host) const;
  /// Positions that the longest sequence of the step has, its own rows included.
  int32_t longest() const { return longest_; }

 private:
  struct Section {
    const void* host = nullptr;
    int64_t count = 0;
    int64_t offset = 0;  // in integers
  };

  int64_t lay_out(const StepInputs& inputs);
  void fill();
  int32_t* staged(int64_t offset) const;
  const int32_t* mirrored(int64_t offset) const;

  PinnedBuffer staging_;
  Buffer mirror_;
  Event copied_;
  std::vector<Section> spans_;
  std::vector<Section> groups_;  // by page tables: `begin` of each
  int64_t pages_ = 0;            // where the page tables begin
  int32_t longest_ = 0;
};

}  // namespace facet::cuda
