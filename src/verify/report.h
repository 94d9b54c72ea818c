#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/difference.h"

namespace facet {

/// What a backend may differ by before verify calls it a fault.
struct Tolerance {
  std::string_view name;
  double relative = 0;   ///< of any Difference
  double of_change = 0;  ///< of what attention or feed-forward add to the stream
  double routing = 0;    ///< gap of a tie, and difference of an expert's weight, relative
};

/// Both backends compute in float32 from the same stored weights and a float32 cache: only the
/// order of sums differs. Measured on up to four layers of the 26B's shapes with random weights
/// (hidden 2816, 128 experts, context 1089): honest kernels stay below 7e-7 on every figure, below
/// 4e-6 with norm weights (q 1.5, k 1) that make attention all but one-hot. The least of the
/// planted faults, GELU's erf form for its tanh form, moves what a trained feed-forward adds
/// by 1.5e-4 to 5.5e-4, and the stream by 6e-5 to 2e-4.
inline constexpr Tolerance kExact = {"float32", 1e-5, 2e-5, 1e-4};

/// Something is rounded to BF16 or FP8 on the way: 2^-9 and 2^-4 of a value, less over a row. The
/// stream's bound is what the engine promises of any backend; a cache in BF16 measures 1.4e-5.
/// Faults as small as a wrong form of GELU pass.
inline constexpr Tolerance kRounded = {"rounded", 1e-2, 2e-2, 2e-2};

/// One layer, each half given the reference's input.
struct LayerReport {
  Difference attention;
  Difference feed_forward;                   ///< experts and per-layer embedding included
  std::optional<RoutingDifference> routing;  ///< in layers with experts
};

/// The fast backend left to itself from the first token on; reported, not judged.
struct FreeReport {
  Difference hidden;  ///< after the final norm
  Difference logits;
  int64_t rows = 0;
  int64_t same_best = 0;  ///< rows whose largest logit is the same token's
};

struct VerifyReport {
  Difference embedding;
  std::optional<Difference> per_layer_inputs;
  std::vector<LayerReport> layers;
  Difference final_norm;
  Difference logits;
  FreeReport free;
};

/// A part of the model that differs by more than the tolerance.
struct Fault {
  std::string where;  ///< "layer 3 attention", "embedding", …
  std::string what;   ///< the figures, and the position of the worst row
};

/// All faults, in the order of the forward pass.
std::vector<Fault> find_faults(const VerifyReport& report, const Tolerance& tolerance);

}  // namespace facet
