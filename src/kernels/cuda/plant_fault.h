#pragma once

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// Enqueues a write out of range, for tests of what must follow.
void plant_illegal_access(cudaStream_t stream);

}  // namespace facet::cuda
