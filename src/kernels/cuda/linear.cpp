#include "kernels/cuda/linear.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_simple.h"
#include "quant/nvfp4_tiles.h"

namespace facet::cuda {
namespace {

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

/// All tokens by linear_stream, as many at a time as it takes.
template <class F>
void run_streamed(cudaStream_t stream, Overlap overlap, const LinearBands& all) {
  LinearBands some = all;
  some.tokens = std::min(all.tokens, static_cast<int32_t>(kStreamRows));
  while (some.tokens > 1 && !stream_fits<F>(some)) --some.tokens;
  CHECK(stream_fits<F>(some), "a row of {} values in shared memory", all.cols);
  for (int32_t done = 0; done < all.tokens; done += some.tokens) {
    LinearBands pass = some;
    pass.tokens = std::min(some.tokens, all.tokens - done);
    pass.x += int64_t{done} * all.cols;
    pass.out += int64_t{done} * all.rows;
    linear_stream<F>(stream, overlap, pass);
  }
}

template <class F>
void run(cudaStream_t stream,
         const LinearArgs& args,
         const BandSource& bands,
         const OutScale& scale) {
  const WeightMatrix& w = args.w.matrix;
  const LinearBands work = {bands,
                            scale,
                            args.out,
                            args.x,
                            static_cast<int32_t>(w.rows),
                            static_cast<int32_t>(w.cols),
                            static_cast<int32_t>(args.rows)};
  if (args.form == ProductForm::kStream) return run_streamed<F>(stream, args.overlap, work);
  if (args.form == ProductForm::kByTokens && args.rows <= kStreamRows && stream_fits<F>(work)) {
    linear_stream<F>(stream, args.overlap, work);
  } else {
    linear_tiled<F>(stream, args.overlap, work, reinterpret_cast<uint8_t*>(args.workspace));
  }
}

BandSource row_major(const WeightMatrix& w) {
  const auto* data = reinterpret_cast<const uint8_t*>(w.data);
  const int64_t pitch = row_bytes(w);
  return {data,
          data + 8 * pitch,
          pitch,
          16,
          static_cast<int32_t>(w.rows),
          static_cast<int32_t>(w.rows - 8),
          static_cast<int32_t>(tile_bands(w.rows)),
          static_cast<int32_t>(steps_of(w.cols))};
}

}  // namespace

int64_t linear_workspace_bytes(int64_t rows, int64_t cols) {
  return round_up(rows * steps_of(cols) * kStepBytesX, 256);
}

void linear(cudaStream_t stream, const LinearArgs& args) {
  const WeightMatrix& w = args.w.matrix;
  if (args.rows == 0) return;
  if (args.form == ProductForm::kPlain)
    return linear_simple(stream, args.out, args.x, w, args.rows);
  const bool rows_aligned = aligned(w.data) && row_bytes(w) % 16 == 0 && aligned(args.x);
  if (args.w.tiles != nullptr) {
    CHECK(w.format == WeightFormat::kNvfp4, "tiles of a matrix in {}", to_string(w.format));
    const auto* tiles = reinterpret_cast<const uint8_t*>(args.w.tiles);
    const BandSource bands = {.lower = tiles,
                              .bands = static_cast<int32_t>(tile_bands(w.rows)),
                              .steps = static_cast<int32_t>(tile_steps(w.cols))};
    return run<Nvfp4Steps>(stream, args, bands, {.factor = w.global_scale * kNvfp4Gain});
  }
  if (w.format == WeightFormat::kBF16 && rows_aligned)
    return run<Bf16Steps>(stream, args, row_major(w), {});
  if (w.format == WeightFormat::kFp8 && rows_aligned) {
    return run<Fp8Steps>(stream, args, row_major(w),
                         {w.scales, w.scale_dtype, static_cast<int32_t>(w.scale_rows)});
  }
  linear_simple(stream, args.out, args.x, w, args.rows);
}

}  // namespace facet::cuda
