#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/cuda/device.h"
#include "quant/weight_matrix.h"

namespace facet::cuda {

/// The matrices of one expert, all pointers on the device.
struct DeviceExpert {
  WeightMatrix gate;  // [F, H], or empty
  WeightMatrix up;    // [F, H]
  WeightMatrix down;  // [H, F]
};

struct ExpertsArgs {
  float* out = nullptr;                   // [rows, hidden]
  const float* x = nullptr;               // [rows, hidden]
  float* inner = nullptr;                 // [rows, top_k, width]: workspace
  const DeviceExpert* experts = nullptr;  // [E]
  const int32_t* chosen = nullptr;        // [rows, top_k]
  const float* weights = nullptr;         // [rows, top_k]
  int64_t rows = 0;
  int64_t top_k = 0;
  int64_t hidden = 0;
  int64_t width = 0;
  Activation activation;
};

/// Backend::experts over any formats; x and what goes into `down` are rounded to BF16.
void experts_simple(cudaStream_t stream, const ExpertsArgs& args);

}  // namespace facet::cuda
