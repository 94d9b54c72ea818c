// fp4_products() in plain arithmetic, for builds without CUTLASS and for tests on GPUs without FP4
// tensor cores. No model takes it: it is slow.

#include "kernels/cuda/fp4_quantize.cuh"

namespace facet::cuda {
namespace {

constexpr int kThreads = 128;

/// A thread has a row (x) of a product (y) and walks over its tokens.
__global__ void __launch_bounds__(kThreads) product_kernel(const Fp4List list) {
  const Fp4Product& p = list.products[blockIdx.y];
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= p.rows) return;
  const int64_t blocks = p.cols / kFp4Block;
  for (int64_t token = 0; token < p.tokens; ++token) {
    float sum = 0.0F;
    for (int64_t b = 0; b < blocks; ++b) {
      const uint2 w = *reinterpret_cast<const uint2*>(p.w.codes + (row * blocks + b) * 8);
      const uint2 x = *reinterpret_cast<const uint2*>(p.x.codes + (token * blocks + b) * 8);
      float products = 0.0F;  // a multiple of 1/4 of at most 576: exact
      for (int i = 0; i < 8; ++i) {
        products += from_e2m1((w.x >> (i * 4)) & 15u) * from_e2m1((x.x >> (i * 4)) & 15u) +
                    from_e2m1((w.y >> (i * 4)) & 15u) * from_e2m1((x.y >> (i * 4)) & 15u);
      }
      const float scale = from_e4m3(p.w.scales[fp4_scale_offset(row, b, blocks)]) *
                          from_e4m3(p.x.scales[fp4_scale_offset(token, b, blocks)]);
      sum += scale * products;
    }
    p.out[token * p.rows + row] = p.alpha * sum;
  }
}

}  // namespace

bool has_fp4_cores(int /*architecture*/) { return false; }

int64_t fp4_workspace_bytes(int32_t /*count*/) { return 0; }

void fp4_products(cudaStream_t stream, const Fp4List& list, std::byte* /*workspace*/) {
  if (list.count == 0) return;
  const dim3 blocks(grid(ceil_div(list.most_rows, kThreads)), grid(list.count));
  product_kernel<<<blocks, kThreads, 0, stream>>>(list);
  check_launch("fp4_products (plain)");
}

}  // namespace facet::cuda
