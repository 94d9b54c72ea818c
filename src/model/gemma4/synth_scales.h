#pragma once

#include <string_view>

#include "model/gemma4/config.h"
#include "model/gemma4/random_values.h"

namespace facet::gemma4 {

/// How large random weights must be for a network that behaves: logits with a standard deviation of
/// 3 (far from a soft cap of 30), attention that tells keys apart, branches of even size, and a
/// residual stream in which the token just read does not drown the rest.
///
/// A matrix over inputs of mean square 1 has the standard deviation cols^-1/2, so its outputs have
/// mean square 1 as well. Norm weights are near 1, except where they set how much a branch adds.
class SynthScales {
 public:
  explicit SynthScales(const Gemma4Config& config);

  /// Standard deviation of a Linear or an embedding, by its name relative to the text model, and
  /// its columns.
  double matrix(std::string_view module, int64_t cols) const;
  /// A vector or scalar of `length` elements, by its name relative to the text model. CHECKs that
  /// it is one of the table.
  Law vector(std::string_view name, int64_t length) const;
  /// The largest magnitude calibration would find in front of a Linear.
  double input_amax(std::string_view module) const;
  /// Scales of an FP8 cache: amax / 448.
  double k_scale(int64_t head_dim) const;
  double v_scale() const;

 private:
  double find_layer_scalar() const;

  const Gemma4Config& config_;
  double layer_scalar_ = 1.0;
};

}  // namespace facet::gemma4
