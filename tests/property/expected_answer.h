#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"

namespace facet::test {

constexpr int32_t kVocab = 32;

/// Kind 1 forces the first tokens, 2 allows half of them each time, 0 is none. Deterministic, so
/// that the expected answer can be had from another instance of it.
std::unique_ptr<TokenGuide> make_simulated_guide(int32_t kind, int32_t choice);

struct ExpectedAnswer {
  std::vector<int32_t> ids;
  std::vector<TokenLogprob> logprobs;
  FinishReason finish = FinishReason::kLength;
};

/// The answer of a choice by the rules of the interface, from the logits of a HashOracle with
/// `window` alone. `guided` is the guide's kind.
ExpectedAnswer expected_answer(const Request& request,
                               int32_t guided,
                               int32_t choice,
                               int32_t window);

}  // namespace facet::test
