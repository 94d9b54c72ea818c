#include "kernels/step_limits.h"

#include <bit>

namespace facet {
namespace {

/// Whether a product's K is not cut into chunks.
bool narrow(int64_t cols) {
  return cols % kStepColumns != 0 || cols / kStepColumns < kChunkedSteps;
}

}  // namespace

bool step_kind_fits(const StepKind& kind, int32_t tokens) {
  constexpr int32_t kShared = 8;  // columns of attention's products: heads, twice with a window
  if (kind.kv_heads <= 0 || kind.q_heads % kind.kv_heads != 0) return false;
  const int32_t group = kind.q_heads / kind.kv_heads;
  const bool window = kind.window > 0;
  // Of heads of 256, up to four tokens are attended to at once: by so few warps, which weigh a
  // column each, in one part.
  const bool few = kind.head_dim == 256 && tokens > 2;
  const int32_t columns = few ? kShared / 2 : kShared;
  // Of heads of 256, cells of several tokens have room for so many (kCellRoom).
  const bool crowded = kind.head_dim == 256 && tokens > 1 && group > kShared / 2;
  // o's x may come in two rounds, each of whole slots of every chunk (TokenSizes::kRounds).
  const int64_t o_unit = int64_t{tokens > 4 ? 4 : 1} * kStepChunks * kStepColumns;
  const int64_t q_rows = int64_t{kind.q_heads} * kind.head_dim;
  return (kind.head_dim == 256 || kind.head_dim == 512) &&
         std::has_single_bit(static_cast<uint32_t>(group)) && group * (window ? 2 : 1) <= columns &&
         kind.angles <= kTokenAngles && !narrow(q_rows) && q_rows <= kTokenHeadRows &&
         q_rows % o_unit == 0 && !crowded && (window || !few) &&
         (!window || kind.window >= 16);  // copies of 16 positions: some of them seen at an end
}

bool step_widths_fit(const StepWidths& w) {
  return w.hidden == kTokenHidden && !narrow(w.dense_width) && w.dense_width <= kTokenHidden &&
         w.expert_width % kStepColumns == 0 && w.expert_width / kStepColumns <= kTokenWidthSteps &&
         narrow(w.expert_width) && w.top_k >= 1 && w.top_k <= kTokenExperts &&
         w.top_k <= w.experts && w.experts <= kTokenChoices;
}

}  // namespace facet
