#pragma once

#include <memory>
#include <optional>
#include <unordered_map>

#include "kernels/backend.h"

namespace facet::gemma4 {

/// The largest input magnitude that each quantisable matrix has met, by the address of its data.
using InputRanges = std::unordered_map<const void*, float>;

/// A backend that computes as `inner` does and notes in `ranges` what goes into every linear and
/// every expert matrix. Slow: experts run one after another. Both arguments must outlive it; all
/// memory must be the host's.
std::unique_ptr<Backend> make_observing_backend(Backend& inner, InputRanges& ranges);

}  // namespace facet::gemma4
