#pragma once

#include <array>
#include <cstdint>

namespace facet {

/// How long steps take, learnt from those that ran, so that a step with decodes takes as many
/// prompt rows as double its time and no more: nobody who reads along waits longer than that for
/// the next token, whatever the machine, the model and the context.
class StepCosts {
 public:
  /// A step of `decodes` decodes and `prompt_rows` other rows took `seconds`.
  void observe(int32_t decodes, int32_t prompt_rows, double seconds);
  /// Prompt rows, 1 to `most`, that take as long as a step of `decodes` > 0 decodes alone.
  int32_t prompt_rows(int32_t decodes, int32_t most) const;

 private:
  /// A mean in which one outlier, such as a machine that was stopped, counts little.
  struct Estimate {
    double seconds = 0;  // 0: nothing known
    void add(double sample);
  };

  /// A step of `decodes` decodes; 0 if nothing is known. What is not known is taken from the next
  /// smaller number that is.
  double decode_seconds(int32_t decodes) const;

  std::array<Estimate, 32> decode_;  // by the bits of the number of decodes
  Estimate mixed_row_;               // a prompt row beside decodes
  Estimate prompt_row_;              // one of a step of prompts alone, which are many and cheaper
};

}  // namespace facet
