#include "engine/step_batch.h"

#include "base/check.h"

namespace facet {

void StepBatch::build(const KvCache& cache, std::span<const SequenceStep> sequences) {
  ids_.clear();
  positions_.clear();
  sequence_of_row_.clear();
  logit_rows_.clear();
  rows_.clear();
  slots_.clear();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const SequenceStep& sequence = sequences[s];
    CHECK(!sequence.ids.empty(), "sequence {} has no tokens", s);
    const auto first_row = static_cast<int32_t>(ids_.size());
    const auto rows = static_cast<int32_t>(sequence.ids.size());
    const int32_t first_position = cache.length(sequence.slot);
    rows_.push_back({first_row, rows, first_position});
    slots_.push_back(sequence.slot);
    ids_.insert(ids_.end(), sequence.ids.begin(), sequence.ids.end());
    for (int32_t i = 0; i < rows; ++i) {
      positions_.push_back(first_position + i);
      sequence_of_row_.push_back(static_cast<int32_t>(s));
      const bool wanted = sequence.logits == LogitRows::kAll ||
                          (sequence.logits == LogitRows::kLast && i + 1 == rows);
      if (wanted) logit_rows_.push_back(first_row + i);
    }
  }
  cache.views(slots_, kv_);
  batch_ = {positions_, sequence_of_row_, rows_};
}

}  // namespace facet
