// Times of attention at the model's shapes, as products_time.cu does those of products.

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/prepare_attention.h"
#include "tests/cuda/products.h"
#include "tests/cuda/products_time.h"

namespace facet::test {
namespace {

constexpr int kPage = 64;

struct HeadShape {
  const char* name;
  int heads;
  int kv_heads;
  int head_dim;
  int window;
};
constexpr HeadShape kLocal = {"local", 16, 8, 256, 1024};
constexpr HeadShape kFull = {"full", 16, 2, 512, 0};

/// A step of `rows` sequences with one row each at position `context` - 1, or a prompt of `rows`.
void time_attention(cudaStream_t stream,
                    const HeadShape& shape,
                    DType dtype,
                    int rows,
                    int context,
                    bool prompt,
                    cuda::Overlap overlap) {
  const int sequences = prompt ? 1 : rows;
  const int pages = (context + kPage - 1) / kPage;
  const int seen = shape.window == 0 ? context : std::min(context, shape.window);
  const int64_t width = dtype == DType::kBF16 ? 2 : 1;
  const int64_t cache =
      int64_t{sequences} * pages * kPage * shape.kv_heads * shape.head_dim * width;
  const int64_t bytes = 2 * width * shape.kv_heads * shape.head_dim *
                        (prompt ? int64_t{context} : int64_t{rows} * seen);
  // Several layers' caches in turn, so that L2 does not hold them.
  const int layers = static_cast<int>(
      std::clamp<int64_t>(int64_t{400000000} / std::max<int64_t>(bytes, 1), 2, 24));
  DeviceArray<uint8_t> k(cache * layers);
  DeviceArray<uint8_t> v(cache * layers);
  must(cudaMemset(k.get(), 0x3c, static_cast<size_t>(cache * layers)), "fill");
  must(cudaMemset(v.get(), 0x3c, static_cast<size_t>(cache * layers)), "fill");
  std::vector<int32_t> positions;
  std::vector<int32_t> sequence_of_row;
  std::vector<int32_t> begins;
  std::vector<int32_t> table;
  for (int r = 0; r < rows; ++r) {
    positions.push_back(prompt ? context - rows + r : context - 1);
    sequence_of_row.push_back(prompt ? 0 : r);
  }
  for (int s = 0; s < sequences; ++s) {
    begins.push_back(s * pages);
    for (int p = 0; p < pages; ++p) table.push_back(s * pages + p);
  }
  const DeviceArray<int32_t> d_positions(positions);
  const DeviceArray<int32_t> d_rows(sequence_of_row);
  const DeviceArray<int32_t> d_begins(begins);
  const DeviceArray<int32_t> d_table(table);
  const DeviceArray<float> q(random_floats(int64_t{rows} * shape.heads * shape.head_dim, 1));
  const DeviceArray<float> fresh(random_floats(int64_t{rows} * shape.kv_heads * shape.head_dim, 2));
  const DeviceArray<float> norm(random_floats(shape.head_dim, 3));
  DeviceArray<float> out(q.count());
  // As the backend bounds the positions of single rows.
  const auto bound = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(context)));
  const cuda::RowRun run = {0, rows, prompt, prompt ? context : bound};
  cuda::AttentionArgs args;
  args.out = out.get();
  args.q = q.get();
  args.kv = {reinterpret_cast<std::byte*>(k.get()),
             reinterpret_cast<std::byte*>(v.get()),
             dtype,
             1.0F,
             1.0F,
             shape.kv_heads,
             shape.head_dim,
             kPage,
             d_positions.get(),
             d_rows.get(),
             d_begins.get(),
             d_table.get()};
  args.q_heads = shape.heads;
  args.window = shape.window;
  args.rows = rows;
  args.overlap = overlap;
  const cuda::Unprepared unprepared = {norm.get(), fresh.get(),        fresh.get(), norm.get(),
                                       norm.get(), shape.head_dim / 4, 1e-6F};
  DeviceArray<std::byte> partials(cuda::attention_workspace_bytes(args, run));
  DeviceArray<int32_t> arrivals(cuda::kMostArrivals);
  must(cudaMemset(arrivals.get(), 0, static_cast<size_t>(arrivals.count()) * 4), "fill");
  const double us = time_graph(stream, [&] {
    for (int i = 0; i < layers; ++i) {
      args.kv.k = reinterpret_cast<std::byte*>(k.get() + i * cache);
      args.kv.v = reinterpret_cast<std::byte*>(v.get() + i * cache);
      attention_tiles(stream, args, run, {partials.get(), arrivals.get()},
                      prompt ? cuda::Unprepared{} : unprepared);
    }
  });
  double positions_seen = 0;
  for (const int32_t p : positions)
    positions_seen += shape.window == 0 ? p + 1 : std::min(p + 1, shape.window);
  print_time(std::string("attention ") + shape.name + (width == 1 ? " FP8" : " BF16") +
                 (prompt ? ", prompt" : ", context ") + (prompt ? "" : std::to_string(context)) +
                 (overlap == cuda::Overlap::kYes ? " overlapped" : ""),
             rows, static_cast<double>(bytes), us / layers,
             4.0 * positions_seen * shape.heads * shape.head_dim);
}

}  // namespace

void time_all_attention(cudaStream_t stream) {
  for (const cuda::Overlap overlap : {cuda::Overlap::kNo, cuda::Overlap::kYes}) {
    for (const DType dtype : {DType::kBF16, DType::kF8E4M3}) {
      for (const int rows : {1, 2, 4, 8, 32, 100}) {
        time_attention(stream, kLocal, dtype, rows, 1040, false, overlap);
        time_attention(stream, kFull, dtype, rows, 1040, false, overlap);
      }
      time_attention(stream, kLocal, dtype, 100, 640, false, overlap);
      time_attention(stream, kFull, dtype, 100, 640, false, overlap);
      time_attention(stream, kFull, dtype, 1, 4000, false, overlap);
      time_attention(stream, kFull, dtype, 1, 16000, false, overlap);
      time_attention(stream, kFull, dtype, 1, 32000, false, overlap);
    }
  }
  for (const int rows : {100, 1000, 8192}) {
    time_attention(stream, kLocal, DType::kBF16, rows, rows, true, cuda::Overlap::kNo);
    time_attention(stream, kFull, DType::kBF16, rows, rows, true, cuda::Overlap::kNo);
  }
}

int time_attention() {
  cudaStream_t stream;
  must(cudaStreamCreate(&stream), "stream");
  time_all_attention(stream);
  return 0;
}

}  // namespace facet::test
