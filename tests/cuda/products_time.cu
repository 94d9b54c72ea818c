// Times of linear() and experts() at the model's shapes, inside CUDA graphs of chains of calls over
// weights larger than L2, as shares of the read rate measured in the same run.

#include <algorithm>
#include <cstring>

#include "kernels/cuda/experts.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_kernels.h"
#include "quant/nvfp4_tiles.h"
#include "tests/cuda/products.h"
#include "tests/cuda/products_time.h"

namespace facet::test {
namespace {

double read_rate = 4.6e12;

__global__ void fill_kernel(
    uint32_t* to, int64_t count, uint32_t seed, uint32_t mask, uint32_t base) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t v = static_cast<uint32_t>(i) * 2654435761u ^ seed;
    v ^= v >> 16, v *= 0x85ebca6bu, v ^= v >> 13, v *= 0xc2b2ae35u, v ^= v >> 16;
    to[i] = (v & mask) | base;
  }
}

__global__ void read_kernel(const uint4* p, int64_t count, uint32_t* out) {
  uint32_t all = 0;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i + 7 * stride < count;
       i += 8 * stride) {
#pragma unroll
    for (int u = 0; u < 8; ++u) {
      const uint4 v = __ldcs(p + i + u * stride);
      all |= v.x ^ v.y ^ v.z ^ v.w;
    }
  }
  if (all == 0) out[0] = 1;
}

}  // namespace

double time_graph(cudaStream_t stream, const std::function<void()>& body, int replays) {
  cudaGraph_t graph;
  cudaGraphExec_t runnable;
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  body();
  must(cudaStreamEndCapture(stream, &graph), "end capture");
  must(cudaGraphInstantiate(&runnable, graph, 0), "instantiate");
  cudaEvent_t start;
  cudaEvent_t stop;
  must(cudaEventCreate(&start), "event");
  must(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  for (int i = 0; i < replays + 3; ++i) {
    must(cudaEventRecord(start, stream), "record");
    must(cudaGraphLaunch(runnable, stream), "launch");
    must(cudaEventRecord(stop, stream), "record");
    must(cudaEventSynchronize(stop), "replay");
    float ms = 0;
    must(cudaEventElapsedTime(&ms, start, stop), "elapsed");
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaGraphExecDestroy(runnable);
  cudaGraphDestroy(graph);
  return static_cast<double>(times[times.size() / 2]) * 1e3;
}

void print_time(const std::string& name, int tokens, double bytes, double us, double flops) {
  std::printf("%-44s T %4d  %8.2f MB  %9.2f us  %6.2f TB/s  %5.1f %%  %6.1f TFLOP/s\n",
              name.c_str(), tokens, bytes / 1e6, us, bytes / us / 1e6,
              100 * bytes / (us * 1e-6) / read_rate, flops / us / 1e6);
  std::fflush(stdout);
}

namespace {

/// One shape: a chain of calls over copies that together exceed L2 several times.
double time_linear(const Bench& b,
                   WeightFormat format,
                   int64_t rows,
                   int64_t cols,
                   int tokens,
                   cuda::Overlap overlap) {
  WeightMatrix w;
  w.format = format;
  w.rows = rows;
  w.cols = cols;
  w.scale_dtype = format == WeightFormat::kNvfp4 ? DType::kF8E4M3 : DType::kF32;
  w.scale_rows = 1;
  w.scales = reinterpret_cast<const std::byte*>(b.x.get());
  const double bytes =
      format == WeightFormat::kNvfp4
          ? static_cast<double>(nvfp4_tiles_bytes(rows, cols))
          : static_cast<double>(rows * cols * (format == WeightFormat::kBF16 ? 2 : 1));
  const int64_t apart = (static_cast<int64_t>(bytes) + 255) / 256 * 256;
  const int64_t copies = std::max<int64_t>(1, std::min<int64_t>(64, b.weights.count() * 4 / apart));
  const int calls =
      static_cast<int>(std::max<int64_t>(std::min<int64_t>(copies, 64), bytes > 1e9 ? 2 : 24));
  const double us = time_graph(b.stream, [&] {
    for (int i = 0; i < calls; ++i) {
      const auto* at = reinterpret_cast<const std::byte*>(b.weights.get()) + i % copies * apart;
      w.data = at;
      cuda::linear(b.stream, {b.out.get(),
                              b.x.get(),
                              {w, format == WeightFormat::kNvfp4 ? at : nullptr},
                              tokens,
                              b.workspace.get(),
                              overlap});
    }
  });
  print_time(std::string(to_string(format)) + " " + std::to_string(rows) + " x " +
                 std::to_string(cols) + (overlap == cuda::Overlap::kYes ? " overlapped" : ""),
             tokens, bytes, us / calls, 2.0 * static_cast<double>(rows * cols) * tokens);
  return us / calls;
}

/// The streaming kernel with 1, 2 and 4 bands under way in a CTA: what choose_groups() rests on.
void time_groups(const Bench& b, int rows, int cols, int tokens) {
  const int64_t bytes = int64_t{rows} * cols * 2;
  const int64_t copies = std::min<int64_t>(64, b.weights.count() * 4 / bytes);
  for (const int groups : {1, 2, 4}) {
    const int calls = static_cast<int>(std::max<int64_t>(copies, 24));
    const double us = time_graph(b.stream, [&] {
      for (int i = 0; i < calls; ++i) {
        const auto* at = reinterpret_cast<const uint8_t*>(b.weights.get()) + i % copies * bytes;
        const cuda::BandSource bands = {
            at,       at + int64_t{16} * cols, int64_t{2} * cols, 16, rows,
            rows - 8, (rows + 15) / 16,        (cols + 63) / 64};
        cuda::StreamWork work;
        work.add({bands, {}, {}, b.out.get(), rows});
        work.x = b.x.get();
        work.cols = cols;
        work.tokens = tokens;
        cuda::linear_stream<cuda::Bf16Steps>(b.stream, cuda::Overlap::kYes, work, groups);
      }
    });
    print_time("BF16 " + std::to_string(rows) + " x " + std::to_string(cols) + ", " +
                   std::to_string(groups) + " bands a CTA",
               tokens, static_cast<double>(bytes), us / calls, 2.0 * rows * cols * tokens);
  }
}

double time_experts(const Bench& b, WeightFormat format, int rows, cuda::Overlap overlap) {
  constexpr int kExperts = 128;
  constexpr int kLayers = 6;
  const bool nvfp4 = format == WeightFormat::kNvfp4;
  const int64_t gate_up = nvfp4 ? nvfp4_pair_tiles_bytes(704, 2816) : 2 * 704 * 2816 * 2;
  const int64_t down = nvfp4 ? nvfp4_tiles_bytes(2816, 704) : 704 * 2816 * 2;
  const int64_t layer_bytes = kExperts * (gate_up + down);
  const int layers =
      static_cast<int>(std::min<int64_t>(kLayers, b.weights.count() * 4 / layer_bytes));
  std::vector<cuda::ExpertPointers> pointers;
  for (int i = 0; i < layers * kExperts; ++i) {
    const auto* at = reinterpret_cast<const std::byte*>(b.weights.get()) + i * (gate_up + down);
    pointers.push_back({at, at + gate_up / 2, at + gate_up, 1e-3F, 1e-3F, 1e-3F});
  }
  const DeviceArray<cuda::ExpertPointers> device(pointers);
  std::vector<DeviceArray<int32_t>> chosen;
  std::vector<DeviceArray<float>> weights;
  const int calls = rows >= 1000 ? 4 : 24;
  double experts = 0;
  for (int i = 0; i < calls; ++i) {
    std::vector<int32_t> c;
    std::vector<float> w;
    random_routing(rows, 8, kExperts, 0, static_cast<unsigned>(100 + i), c, w);
    chosen.emplace_back(c);
    weights.emplace_back(w);
    std::sort(c.begin(), c.end());
    experts += static_cast<double>(std::unique(c.begin(), c.end()) - c.begin()) / calls;
  }
  const double us = time_graph(b.stream, [&] {
    for (int i = 0; i < calls; ++i) {
      const cuda::ExpertsLayer layer = {format,   {ActivationFunction::kGeluTanh, Gating::kGated},
                                        kExperts, 2816,
                                        704,      device.get() + i % layers * kExperts};
      cuda::experts(b.stream,
                    {layer, b.out.get(), b.x.get(), chosen[static_cast<size_t>(i)].get(),
                     weights[static_cast<size_t>(i)].get(), rows, 8, b.workspace.get(), overlap});
    }
  });
  print_time("experts " + std::string(to_string(format)) + " (" +
                 std::to_string(static_cast<int>(experts + 0.5)) + " chosen)" +
                 (overlap == cuda::Overlap::kYes ? " overlapped" : ""),
             rows, experts * static_cast<double>(gate_up + down), us / calls,
             2.0 * 3 * 704 * 2816 * 8 * rows);
  return us / calls;
}

}  // namespace

int time_products(Timed timed) {
  cudaStream_t stream;
  must(cudaStreamCreate(&stream), "stream");
  DeviceArray<uint32_t> weights(1000000000);
  // Random BF16 about 1 in both halves: exponents 0x3c to 0x3f, any sign and mantissa.
  fill_kernel<<<1024, 256, 0, stream>>>(weights.get(), weights.count(), 7, 0x83ff83ffu,
                                        0x3c003c00u);
  DeviceArray<float> x(random_floats(2048 * 8192 / 4, 1));
  DeviceArray<float> x_all(int64_t{1024} * 8192);
  for (int i = 0; i < 2; ++i)
    must(cudaMemcpy(x_all.get() + i * x.count(), x.get(), static_cast<size_t>(x.count()) * 4,
                    cudaMemcpyDeviceToDevice),
         "copy");
  DeviceArray<float> out(int64_t{8} * 262144 + int64_t{1024} * 16384);
  const cuda::ExpertsLayer shape = {WeightFormat::kNvfp4, {}, 128, 2816, 704, nullptr};
  DeviceArray<std::byte> workspace(cuda::experts_workspace_bytes(shape, 1024, 8));
  const Bench b = {stream, weights, x_all, out, workspace};
  double best = 0;
  for (const int blocks : {132 * 4, 132 * 8, 132 * 16}) {
    const double us = time_graph(stream, [&] {
      read_kernel<<<blocks, 512, 0, stream>>>(reinterpret_cast<const uint4*>(weights.get()),
                                              weights.count() / 4,
                                              reinterpret_cast<uint32_t*>(out.get()));
    });
    best = std::max(best, static_cast<double>(weights.count()) * 4 / (us * 1e-6));
  }
  read_rate = best;
  std::printf("plain reads of 4 GB: %.3f TB/s\n", best / 1e12);
  for (const int tokens : {1, 2, 4, 8}) time_phases(b, tokens);
  if (timed == Timed::kPhases) return 0;
  time_all_attention(stream);
  using cuda::Overlap;
  const auto kBF16 = WeightFormat::kBF16;
  for (const Overlap overlap : {Overlap::kNo, Overlap::kYes}) {
    for (const int tokens : {1, 2, 4, 8, 16, 32, 64, 100})
      time_linear(b, kBF16, 8192, 2816, tokens, overlap);
    for (const int tokens : {1, 8, 32, 100}) {
      time_linear(b, kBF16, 4096, 2816, tokens, overlap);
      time_linear(b, kBF16, 2048, 2816, tokens, overlap);
      time_linear(b, kBF16, 2816, 4096, tokens, overlap);
      time_linear(b, kBF16, 2816, 8192, tokens, overlap);
      time_linear(b, kBF16, 2112, 2816, tokens, overlap);
      time_linear(b, kBF16, 4224, 2816, tokens, overlap);
      time_linear(b, kBF16, 2816, 2112, tokens, overlap);
      time_linear(b, kBF16, 128, 2816, tokens, overlap);
    }
    for (const int tokens : {1, 8, 64}) {
      time_linear(b, WeightFormat::kFp8, 8192, 2816, tokens, overlap);
      time_linear(b, WeightFormat::kNvfp4, 8192, 2816, tokens, overlap);
    }
    for (const int rows : {1, 2, 4, 8, 9, 16, 32, 64, 100, 400})
      time_experts(b, WeightFormat::kNvfp4, rows, overlap);
    for (const int rows : {1, 8, 32}) time_experts(b, kBF16, rows, overlap);
  }
  for (const int tokens : {1, 8}) time_linear(b, kBF16, 262144, 2816, tokens, Overlap::kNo);
  for (const int tokens : {1, 8, 16}) {
    time_groups(b, 8192, 2816, tokens);
    time_groups(b, 4096, 2816, tokens);
    time_groups(b, 2816, 4096, tokens);
    time_groups(b, 2112, 2816, tokens);
  }
  // A prompt of 1000 tokens through 25 local and 5 full layers.
  const int t = 1000;
  const double q = time_linear(b, kBF16, 4096, 2816, t, Overlap::kNo);
  const double kv = time_linear(b, kBF16, 2048, 2816, t, Overlap::kNo);
  const double o = time_linear(b, kBF16, 2816, 4096, t, Overlap::kNo);
  const double full_q = time_linear(b, kBF16, 8192, 2816, t, Overlap::kNo);
  const double full_k = time_linear(b, kBF16, 1024, 2816, t, Overlap::kNo);
  const double full_o = time_linear(b, kBF16, 2816, 8192, t, Overlap::kNo);
  const double up = time_linear(b, kBF16, 2112, 2816, t, Overlap::kNo);
  const double down = time_linear(b, kBF16, 2816, 2112, t, Overlap::kNo);
  const double router = time_linear(b, kBF16, 128, 2816, t, Overlap::kNo);
  const double experts = time_experts(b, WeightFormat::kNvfp4, t, Overlap::kNo);
  const double linears =
      25 * (q + 2 * kv + o) + 5 * (full_q + full_k + full_o) + 30 * (2 * up + down + router);
  std::printf("1000 tokens, 30 layers: linears %.2f ms, experts %.2f ms, together %.2f ms\n",
              linears / 1e3, 30 * experts / 1e3, (linears + 30 * experts) / 1e3);
  return 0;
}

}  // namespace facet::test
