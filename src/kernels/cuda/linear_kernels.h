#pragma once

// What linear.cu chooses among. Each takes BandSource and OutScale of one matrix.

#include <cstdint>

#include "kernels/cuda/bands.h"
#include "kernels/cuda/launch.h"

namespace facet::cuda {

struct LinearBands {
  BandSource w;
  OutScale scale;
  float* out = nullptr;      ///< [tokens, rows]
  const float* x = nullptr;  ///< [tokens, cols]
  int32_t rows = 0;
  int32_t cols = 0;
  int32_t tokens = 0;
  int64_t weight_bytes = 0;  ///< for Traffic
};

/// What a product over all of it moves, x being of `value_bytes` bytes each.
inline Traffic traffic_of(const LinearBands& args, int64_t value_bytes) {
  return {args.weight_bytes +
          args.tokens * (args.cols * value_bytes + args.rows * int64_t{sizeof(float)})};
}

/// Whether x of that many tokens finds room in linear_stream's shared memory.
template <class F>
bool stream_fits(const LinearBands& args);

/// At most 16 tokens. `groups`: bands that a CTA has under way at once (1, 2, 4; 0: chosen here).
template <class F>
void linear_stream(cudaStream_t stream, Overlap overlap, const LinearBands& args, int groups = 0);

/// Any number of tokens; `packed` takes the rounded x: tokens * steps * 128 bytes.
template <class F>
void linear_tiled(cudaStream_t stream, Overlap overlap, const LinearBands& args, uint8_t* packed);

}  // namespace facet::cuda
