// W4A4 of one matrix: x is quantised, then one product. Bound as fp4_products() is.

#include "kernels/cuda/carver.h"
#include "kernels/cuda/fp4_quantize.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;

struct Room {
  uint8_t* codes;
  uint8_t* scales;
  int64_t scale_bytes;
  Fp4Product* product;
  std::byte* products;
  int64_t bytes;
};

Room carve(int64_t tokens, int64_t cols, std::byte* workspace) {
  Carver carver(workspace);
  Room room = {};
  room.scale_bytes = fp4_scale_bytes(ceil_div(tokens, 128), cols);
  room.codes = carver.take<uint8_t>(tokens * cols / 2);
  room.scales = carver.take<uint8_t>(room.scale_bytes);
  room.product = carver.take<Fp4Product>(1);
  room.products = carver.take<std::byte>(fp4_workspace_bytes(1));
  room.bytes = carver.used();
  return room;
}

/// A thread quantises a block of 16; the first also writes down the product.
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const Fp4Linear args, uint8_t* codes, uint8_t* scales, Fp4Product* product) {
  const int blocks = args.cols / kFp4Block;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i == 0) {
    *product = {args.w,    {codes, scales}, args.out, args.input_scale * args.global_scale,
                args.rows, args.tokens,     args.cols};
  }
  if (i >= int64_t{args.tokens} * blocks) return;
  const int64_t token = i / blocks;
  float block[kFp4Block];
#pragma unroll
  for (int k = 0; k < kFp4Block; ++k) block[k] = args.x[i * kFp4Block + k];
  const uint8_t scale = quantize_block(block, args.input_scale, codes + i * (kFp4Block / 2));
  scales[fp4_scale_offset(token, i % blocks, blocks)] = scale;
}

__global__ void __launch_bounds__(kThreads)
    swizzle_kernel(uint8_t* to, const uint8_t* from, int64_t rows, int64_t scale_cols) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < rows * scale_cols)
    to[fp4_scale_offset(i / scale_cols, i % scale_cols, scale_cols)] = from[i];
}

}  // namespace

void swizzle_scales(
    cudaStream_t stream, uint8_t* to, const std::byte* from, int64_t rows, int64_t scale_cols) {
  if (rows * scale_cols == 0) return;
  swizzle_kernel<<<grid(ceil_div(rows * scale_cols, kThreads)), kThreads, 0, stream>>>(
      to, reinterpret_cast<const uint8_t*>(from), rows, scale_cols);
  check_launch("swizzle_scales");
}

int64_t fp4_linear_workspace_bytes(int64_t tokens, int64_t cols) {
  return carve(tokens, cols, nullptr).bytes;
}

void fp4_linear(cudaStream_t stream, const Fp4Linear& args) {
  if (args.tokens == 0) return;
  const Room room = carve(args.tokens, args.cols, args.workspace);
  check(cudaMemsetAsync(room.scales, 0, static_cast<size_t>(room.scale_bytes), stream),
        "fp4_linear");
  const int64_t blocks = int64_t{args.tokens} * (args.cols / kFp4Block);
  quantize_kernel<<<grid(ceil_div(blocks, kThreads)), kThreads, 0, stream>>>(
      args, room.codes, room.scales, room.product);
  check_launch("fp4_linear: quantize");
  fp4_products(stream, {room.product, 1, args.rows}, room.products);
}

}  // namespace facet::cuda
