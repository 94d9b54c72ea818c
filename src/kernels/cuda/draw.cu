// The next tokens, from the largest logits of each row. Candidates are put in order by counting who
// comes before each, then weighed and summed one after another as the host does it: the same sums
// in float64, so that the same token comes out. (A weight is e^x in float64 rounded to float32; the
// host's float32 e^x may differ in its last bit, which moves a border by one part in 2^24.)

#include "kernels/cuda/draw.h"
#include "kernels/cuda/launch.h"

namespace facet::cuda {
namespace {

constexpr int kThreads = kTopRoom + 1;

struct Candidates {
  float logits[kThreads];
  int32_t ids[kThreads];
};

/// Larger logits first, lower ids first among equals.
__device__ bool comes_before(float logit, int32_t id, float other, int32_t other_id) {
  return logit > other || (logit == other && id < other_id);
}

/// Which of the weights, in order, is drawn.
__device__ int choose(const DrawSpec& spec, const float* weights) {
  double sum = 0.0;
  for (int i = 0; i < spec.top_k; ++i) sum += static_cast<double>(weights[i]);
  const double wanted = static_cast<double>(spec.top_p) * sum;
  double reached = 0.0;
  int count = 0;
  while (count < spec.top_k && (count == 0 || reached < wanted) && weights[count] >= spec.min_p)
    reached += static_cast<double>(weights[count++]);
  double left =
      static_cast<double>(keyed_uniform_of(spec.seed, spec.position, spec.choice)) * reached;
  for (int i = 0; i < count; ++i) {
    left -= static_cast<double>(weights[i]);
    if (left < 0.0) return i;
  }
  return count - 1;
}

/// Grid: [rows]; a thread a candidate.
__global__ void __launch_bounds__(kThreads)
    draw_kernel(int32_t* out, const TopRow* found, const DrawSpec* specs) {
  __shared__ Candidates all;
  __shared__ Candidates sorted;
  const TopRow& row = found[blockIdx.x];
  const DrawSpec& spec = specs[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  const int count = row.count;
  if (spec.top_k < 1 || row.finite == 0 || count > kTopRoom) {
    if (thread == 0) out[blockIdx.x] = -1;
    return;
  }
  float logit = -INFINITY;
  int32_t id = INT32_MAX;
  bool stays = thread < count;
  if (stays) {
    logit = row.entries[thread].logit;
    id = row.entries[thread].id;
    for (int i = 0; i < spec.excluded_count; ++i) stays = stays && id != spec.excluded[i];
    if (!stays) logit = -INFINITY;
  }
  all.logits[thread] = logit;
  all.ids[thread] = id;
  if (__syncthreads_count(stays) < spec.top_k) {
    if (thread == 0) out[blockIdx.x] = -1;
    return;
  }
  int before = 0;
#pragma unroll 8
  for (int i = 0; i < count; ++i) before += comes_before(all.logits[i], all.ids[i], logit, id);
  if (stays && before < spec.top_k) {
    sorted.logits[before] = logit;
    sorted.ids[before] = id;
  }
  __syncthreads();
  if (spec.top_k > 1) {
    if (thread < spec.top_k) {
      const float below =
          __fdiv_rn(__fsub_rn(sorted.logits[thread], sorted.logits[0]), spec.temperature);
      all.logits[thread] = static_cast<float>(exp(static_cast<double>(below)));
    }
    __syncthreads();
  }
  if (thread == 0) out[blockIdx.x] = sorted.ids[spec.top_k == 1 ? 0 : choose(spec, all.logits)];
}

}  // namespace

void draw(
    cudaStream_t stream, int32_t* out, const TopRow* found, const DrawSpec* specs, int64_t rows) {
  if (rows == 0) return;
  const LaunchShape shape = {
      .grid = dim3(grid(rows)), .threads = kThreads, .traffic = {rows * int64_t{sizeof(TopRow)}}};
  launch(stream, Overlap::kNo, shape, "draw", draw_kernel, out, found, specs);
}

}  // namespace facet::cuda
