#pragma once

#include <array>
#include <cstdint>

namespace facet {

/// How long steps take, learnt from those that ran, so that a step with decodes takes as many
/// prompt rows as do not quite double its time, or as many as take a time that nobody notices:
/// nobody who reads along waits much longer for the next token, whatever the machine, the model and
/// the context, and a fast machine reads prompts in steps that are worth it.
class StepCosts {
 public:
  /// Prompt rows may take `unnoticed` seconds of a step, however short the decodes are.
  explicit StepCosts(double unnoticed = 0) : unnoticed_(unnoticed) {}

  /// A step of `decodes` decodes and `prompt_rows` other rows took `seconds`.
  void observe(int32_t decodes, int32_t prompt_rows, double seconds);
  /// Prompt rows, at most `most`, that a step of `decodes` > 0 decodes can take. 0 now and then, so
  /// that the time of decodes alone stays known.
  int32_t prompt_rows(int32_t decodes, int32_t most) const;

 private:
  /// Of a step of `decodes` decodes; 0 if nothing is known. What is not known is taken from the
  /// next smaller number that is.
  double decode_seconds(int32_t decodes) const;
  /// Of a prompt row beside decodes that take `decoding` seconds.
  double guess_mixed_row(double decoding) const;

  double unnoticed_;
  std::array<double, 32> decode_{};  // seconds, by the bits of the number of decodes; 0: not known
  double mixed_row_ = 0;             // seconds of a prompt row beside decodes; likewise
  double prompt_row_ = 0;            // of one among many: cheaper
  int32_t mixed_steps_ = 0;          // since the last with decodes alone
};

}  // namespace facet
