#pragma once

#include <cstdint>
#include <functional>

#include "checkpoint/checkpoint.h"

namespace facet {

/// Reads every F32, BF16, F16 and E4M3 tensor of the checkpoint and throws Error{kBadCheckpoint}
/// that lists those that hold a NaN or an infinity, with the first place of each. Loading looks at
/// small tensors and scales only: this reads the whole files. `progress` is given the bytes looked
/// at.
void check_values(const Checkpoint& checkpoint, const std::function<void(int64_t)>& progress);

}  // namespace facet
