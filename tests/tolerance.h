#pragma once

namespace facet::test {

// Every tolerance of the test suite, each with its reason. One float32 rounding is 6e-8 of the
// value.

/// Logits of a golden checkpoint, absolute. The goldens' README names it: both sides compute in
/// float32, in different orders of summation; an independent implementation came within 5e-5.
inline constexpr float kGoldenLogits = 1e-3F;

/// Logits of a golden on a backend that rounds activations to BF16, absolute: the goldens' README
/// names it, for the largest difference and for the mean one on the prompt.
inline constexpr float kBf16GoldenLogits = 1.0F;
inline constexpr float kBf16GoldenMean = 0.15F;

/// A sum of products in float32, relative to the sum of the terms' magnitudes. The suites' sums
/// have up to 1000 terms; the rounding errors of that many additions in one chain walk to about
/// sqrt(1000) * 6e-8, and no chain of ours is that long. Activations rounded to BF16 or weights
/// rounded once more would be off by 1e-3.
inline constexpr double kSum = 2e-6;

/// The same through experts() where what enters its second product is rounded to BF16: half a step,
/// 2^-9 of each term. The input is rounded too, in the expected value as well.
inline constexpr double kBf16Inner = 0x1p-9;

/// A value that takes a handful of float32 roundings (products, a square root, a division),
/// relative.
inline constexpr double kRounding = 1e-6;

/// exp, tanh and what is made of them, relative to the value's natural size: vectorised forms are
/// good to a few units in the last place. The erf form of GELU is off by up to 5e-4.
inline constexpr double kTranscendental = 1e-6;

/// cos and sin of angles up to 262143 radians, absolute: the angle itself is given in float32, so
/// only an argument reduction in too few bits exceeds this.
inline constexpr double kRotation = 1e-6;

/// A softmax-weighted mean, relative to the largest value that enters: an error of the score moves
/// its weight by as much, and scores of the suites reach some tens (times kSum).
inline constexpr double kAttention = 2e-5;

/// Router probabilities that two backends may order either way, relative.
inline constexpr double kRouterTie = 2e-5;

/// Logits of a golden with its KV cache in BF16, absolute: transformers with everything in BF16 is
/// off by 0.3 to 0.8 on these models (goldens' README); the cache alone must stay below that. `ref`
/// measures 0.09.
inline constexpr float kBf16CacheLogits = 0.3F;

/// The same with an FP8 cache, whose steps are 16 times as wide as BF16's: 16 times the bound
/// above. `ref` measures 3.75 on the golden that has cache scales.
inline constexpr float kFp8CacheLogits = 4.8F;

}  // namespace facet::test
