#pragma once

#include "kernels/cuda/device.h"

namespace facet::cuda {

/// Whether this build holds machine code for the current GPU.
bool has_code_for_device();
/// Bytes a second of plain reads of `data` [bytes], the best of some runs. It should be much larger
/// than the caches, and be zeroed.
double measure_read(cudaStream_t stream, void* data, int64_t bytes);
/// BF16 multiply-adds a second on the tensor cores through mma.sync, two operations each. `sink`:
/// room for a float.
double measure_products(cudaStream_t stream, float* sink);

}  // namespace facet::cuda
