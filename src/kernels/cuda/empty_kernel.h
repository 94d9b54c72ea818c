#pragma once

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// Launches a kernel that does nothing, to see what a launch takes.
void empty_launch(cudaStream_t stream);

}  // namespace facet::cuda
