#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/kv_cache.h"
#include "model/model.h"

namespace facet {

/// Which rows of a sequence's part of a step need logits.
enum class LogitRows { kNone, kLast, kAll };

/// One sequence's part of a step: its next tokens.
struct SequenceStep {
  CacheSlot slot{};
  std::span<const int32_t> ids;  ///< at least one
  LogitRows logits = LogitRows::kLast;
};

/// The arrays of one step, laid out sequence after sequence. They stay as they are while the cache
/// goes on to change, so a step can run while the next one is planned. Scratch is reused.
class StepBatch {
 public:
  /// Lays out distinct sequences at the positions where they stand. The cache must have room for
  /// the tokens: KvCache::reserve or grow has said yes.
  void build(const KvCache& cache, std::span<const SequenceStep> sequences);
  /// What build() laid out; views this object. Logits come sequence after sequence.
  Step step(StepObserver* observer) const {
    return {ids_, batch_, kv_.layers, logit_rows_, observer};
  }
  std::span<const SequenceRows> rows() const { return rows_; }

 private:
  std::vector<int32_t> ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> sequence_of_row_;
  std::vector<int32_t> logit_rows_;
  std::vector<SequenceRows> rows_;
  std::vector<CacheSlot> slots_;
  CacheViews kv_;
  Batch batch_;
};

}  // namespace facet
