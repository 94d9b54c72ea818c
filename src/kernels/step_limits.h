#pragma once

#include <cstdint>

namespace facet {

// What a step of few tokens as one launch for all layers takes (kernels/cuda/few_tokens.h): sizes
// alone, for kernels to include.

inline constexpr int32_t kStepColumns = 64;   ///< that products take at a time
inline constexpr int32_t kStepChunks = 4;     ///< of K, added in order
inline constexpr int32_t kChunkedSteps = 16;  ///< of kStepColumns; with fewer K is one chunk

inline constexpr int32_t kMostTokens = 8;        ///< of a step, each of another sequence
inline constexpr int32_t kTokenExperts = 8;      ///< that a token chooses
inline constexpr int32_t kTokenChoices = 128;    ///< of how many
inline constexpr int32_t kTokenHidden = 2816;    ///< the hidden size, a thread of 512 has up to 6
inline constexpr int32_t kTokenAngles = 128;     ///< of a head
inline constexpr int32_t kTokenWidthSteps = 11;  ///< of 64 columns of an expert's width
inline constexpr int32_t kTokenHeadRows = 8192;  ///< of q

/// Positions up to which a step can be one launch. Bits were compared up to 33,500 for one token
/// and 22,000 for more.
inline constexpr int32_t kTokenLongest = 65536;
/// Those up to which that was measured to be faster (H200, November 2026, facet bench model): with
/// more than four tokens it is hardly so at 1,024, and no more at 16,384.
constexpr int32_t token_longest(int32_t tokens) {
  return tokens == 1 ? kTokenLongest : tokens <= 4 ? 32768 : 2048;
}

/// Layers that share one shape of attention.
struct StepKind {
  int32_t head_dim = 0;
  int32_t q_heads = 0;
  int32_t kv_heads = 0;
  int32_t window = 0;  ///< 0: none
  int32_t angles = 0;  ///< that rotate
  bool operator==(const StepKind&) const = default;
};
/// Whether the launch takes such layers with so many tokens.
bool step_kind_fits(const StepKind& kind, int32_t tokens);

/// The widths of all layers.
struct StepWidths {
  int64_t hidden = 0;
  int64_t dense_width = 0;
  int64_t expert_width = 0;
  int32_t experts = 0;
  int32_t top_k = 0;
};
bool step_widths_fit(const StepWidths& widths);

}  // namespace facet
