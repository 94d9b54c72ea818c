#include "kernels/cuda/linear.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear_simple.h"
#include "quant/nvfp4_tiles.h"

namespace facet::cuda {
namespace {

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

enum class Kind { kBf16, kFp8, kNvfp4, kSimple };

Kind kind_of(const LinearWeights& weights) {
  const WeightMatrix& w = weights.matrix;
  if (weights.form == ProductForm::kPlain || weights.form == ProductForm::kFp4)
    return Kind::kSimple;
  if (weights.tiles != nullptr) {
    CHECK(w.format == WeightFormat::kNvfp4, "tiles of a matrix in {}", to_string(w.format));
    return Kind::kNvfp4;
  }
  if (!aligned(w.data) || row_bytes(w) % 16 != 0) return Kind::kSimple;
  if (w.format == WeightFormat::kBF16) return Kind::kBf16;
  return w.format == WeightFormat::kFp8 ? Kind::kFp8 : Kind::kSimple;
}

/// Calls `body` with the format's steps as its type.
template <typename Body>
auto with_steps(Kind kind, const Body& body) {
  if (kind == Kind::kBf16) return body.template operator()<Bf16Steps>();
  if (kind == Kind::kFp8) return body.template operator()<Fp8Steps>();
  return body.template operator()<Nvfp4Steps>();
}

BandSource bands_of(const LinearWeights& weights) {
  const WeightMatrix& w = weights.matrix;
  if (weights.tiles != nullptr) {
    return {.lower = reinterpret_cast<const uint8_t*>(weights.tiles),
            .bands = static_cast<int32_t>(tile_bands(w.rows)),
            .steps = static_cast<int32_t>(tile_steps(w.cols))};
  }
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

OutScale scale_of(const LinearWeights& weights) {
  const WeightMatrix& w = weights.matrix;
  if (weights.tiles != nullptr) return {.factor = w.global_scale * kNvfp4Gain};
  if (w.format == WeightFormat::kFp8)
    return {w.scales, w.scale_dtype, static_cast<int32_t>(w.scale_rows)};
  return {};
}

StreamPart part_of(const LinearWeights& w, float* out) {
  return {bands_of(w),           scale_of(w), {}, out, static_cast<int32_t>(w.matrix.rows),
          stored_bytes(w.matrix)};
}

/// Bands of 8 rows of the gate and 8 of up. Row-major formats only.
StreamPart gated_part(const LinearWeights& gate, const LinearWeights& up, float* out) {
  StreamPart part = part_of(gate, out);
  part.upper_scale = scale_of(up);
  part.weight_bytes += stored_bytes(up.matrix);
  part.w.upper = reinterpret_cast<const uint8_t*>(up.matrix.data);
  part.w.band_rows = 8;
  part.w.upper_rows = part.w.lower_rows;
  part.w.bands = static_cast<int32_t>(ceil_div(gate.matrix.rows, 8));
  return part;
}

StreamWork work_of(const float* x, int64_t cols, int64_t rows) {
  StreamWork work;
  work.x = x;
  work.cols = static_cast<int32_t>(cols);
  work.tokens = static_cast<int32_t>(rows);
  return work;
}

/// Whether the streaming kernels take `work`, whose parts are all of one kind and form.
bool streams(Kind kind, ProductForm form, const StreamWork& work) {
  return kind != Kind::kSimple && form != ProductForm::kTiled && work.tokens <= kStreamRows &&
         with_steps(kind, [&]<class F>() { return stream_fits<F>(work); });
}

void run_wide(
    cudaStream_t stream, Overlap overlap, Kind kind, const StreamWork& work, std::byte* packed) {
  with_steps(kind, [&]<class F>() {
    linear_wide<F>(stream, overlap, work, reinterpret_cast<uint8_t*>(packed));
  });
}

/// Whether every CTA of a streamed product may settle and norm for itself. To join two branches in
/// each takes longer than one more launch.
bool norms_in_passing(const NormedStream& x) {
  return x.rows <= kNormedTokens && x.stream.width <= kNormedCols && x.stream.sparse == nullptr;
}

void run_stream(cudaStream_t stream, Overlap overlap, Kind kind, const StreamWork& work) {
  with_steps(kind, [&]<class F>() { linear_stream<F>(stream, overlap, work); });
}

/// All tokens by linear_stream, as many at a time as it takes.
void run_in_passes(cudaStream_t stream, const LinearArgs& args, Kind kind) {
  const WeightMatrix& w = args.w.matrix;
  const auto pass = [&](int64_t first, int64_t rows) {
    StreamWork work = work_of(args.x + first * w.cols, w.cols, rows);
    work.add(part_of(args.w, args.out + first * w.rows));
    return work;
  };
  int64_t most = std::min(args.rows, int64_t{kStreamRows});
  while (most > 1 && !streams(kind, args.w.form, pass(0, most))) --most;
  CHECK(streams(kind, args.w.form, pass(0, most)), "a row of {} values in shared memory", w.cols);
  for (int64_t first = 0; first < args.rows; first += most)
    run_stream(stream, args.overlap, kind, pass(first, std::min(most, args.rows - first)));
}

void run_normed(cudaStream_t stream, Kind kind, const NormedStream& x, StreamWork& work) {
  work.x = nullptr;
  work.stream = x.stream;
  work.norm = x.norm;
  run_stream(stream, x.overlap, kind, work);
}

ResidualArgs in_place(ResidualArgs stream) {
  stream.x_out = const_cast<float*>(stream.x);
  return stream;
}

LinearArgs linear_of(const NormedStream& x, const LinearWeights& w, float* out) {
  return {out, x.h, w, x.rows, x.workspace, x.overlap};
}

/// The router as part of a streamed launch.
StreamRouter router_of(const EnterArgs& args) {
  const RouteArgs& route = *args.route;
  StreamRouter router;
  router.proj = route.proj.data;
  router.scale = route.scale;
  router.logits = route.logits;
  router.sparse = args.sparse;
  router.routed = args.routed;
  router.count = static_cast<int32_t>(route.proj.rows);
  router.blocks = router_blocks(route);
  return router;
}

bool routes_in_passing(const RouteArgs* route) {
  return route == nullptr || routes_in_eights(route->proj);
}

void choose_if_asked(cudaStream_t stream, const EnterArgs& args) {
  if (args.route != nullptr && !args.leaves_choice) route_choice(stream, *args.route);
}

}  // namespace

bool wide_fits(int32_t tokens) {
  constexpr int32_t kFew = 32;
  return tokens > kFew && device_has_wgmma();
}

int32_t router_blocks(const RouteArgs& route) {
  return static_cast<int32_t>(ceil_div(route.proj.rows, kRouterExperts));
}

int64_t linear_workspace_bytes(int64_t rows, int64_t cols) {
  return std::max(round_up(rows * steps_of(cols) * kStepBytesX, 256),
                  fp4_linear_workspace_bytes(rows, cols));
}

void linear(cudaStream_t stream, const LinearArgs& args) {
  const WeightMatrix& w = args.w.matrix;
  if (args.rows == 0) return;
  if (args.w.form == ProductForm::kFp4) {
    Fp4Linear call = {args.out, args.x, args.w.fp4, w.input_scale, w.global_scale};
    call.rows = static_cast<int32_t>(w.rows);
    call.cols = static_cast<int32_t>(w.cols);
    call.tokens = static_cast<int32_t>(args.rows);
    call.workspace = args.workspace;
    return fp4_linear(stream, call);
  }
  const Kind kind = aligned(args.x) ? kind_of(args.w) : Kind::kSimple;
  if (kind == Kind::kSimple) {
    CHECK(args.w.tiles == nullptr, "x of tiles not at 16 bytes");
    return linear_simple(stream, args.out, args.x, w, args.rows);
  }
  StreamWork work = work_of(args.x, w.cols, args.rows);
  work.add(part_of(args.w, args.out));
  if (streams(kind, args.w.form, work)) return run_stream(stream, args.overlap, kind, work);
  if (args.w.form == ProductForm::kStream) return run_in_passes(stream, args, kind);
  if (wide_fits(work.tokens)) return run_wide(stream, args.overlap, kind, work, args.workspace);
  const LinearBands bands = {bands_of(args.w),
                             scale_of(args.w),
                             args.out,
                             args.x,
                             static_cast<int32_t>(w.rows),
                             static_cast<int32_t>(w.cols),
                             static_cast<int32_t>(args.rows),
                             stored_bytes(w)};
  with_steps(kind, [&]<class F>() {
    linear_tiled<F>(stream, args.overlap, bands, reinterpret_cast<uint8_t*>(args.workspace));
  });
}

std::optional<StreamWork> stream_beside(const LinearArgs& args) {
  constexpr int64_t kMostTokens = 8;
  if (args.rows > kMostTokens || !aligned(args.x) || kind_of(args.w) != Kind::kBf16 ||
      args.w.form == ProductForm::kTiled)
    return std::nullopt;
  StreamWork work = work_of(args.x, args.w.matrix.cols, args.rows);
  work.add(part_of(args.w, args.out));
  return work;
}

bool project(cudaStream_t stream, const NormedStream& x, std::span<const LinearOutput> outputs) {
  const int64_t cols = outputs.front().w.matrix.cols;
  const Kind kind = kind_of(outputs.front().w);
  StreamWork work = work_of(x.h, cols, x.rows);
  bool together = outputs.size() <= StreamWork::kMostParts;
  for (const LinearOutput& output : outputs) {
    together = together && kind_of(output.w) == kind && output.w.matrix.cols == cols;
    if (together) work.add(part_of(output.w, output.out));
  }
  together = together && kind != Kind::kSimple;
  const ProductForm form = outputs.front().w.form;
  const bool streamed = together && streams(kind, form, work);
  if (streamed && norms_in_passing(x)) {
    run_normed(stream, kind, x, work);
    return true;
  }
  settle(stream, in_place(x.stream), {x.h, x.norm}, {}, x.rows);
  if (streamed) {
    run_stream(stream, x.overlap, kind, work);
  } else if (together && form != ProductForm::kStream && wide_fits(work.tokens)) {
    run_wide(stream, x.overlap, kind, work, x.workspace);
  } else {
    for (const LinearOutput& output : outputs) linear(stream, linear_of(x, output.w, output.out));
  }
  return false;
}

bool enter_feed_forward(cudaStream_t stream, const EnterArgs& args) {
  const NormedStream& x = args.x;
  const Kind kind = kind_of(args.gate);
  const bool in_pairs = (kind == Kind::kBf16 || kind == Kind::kFp8) && kind_of(args.up) == kind;
  StreamWork work = work_of(x.h, args.gate.matrix.cols, x.rows);
  if (in_pairs) {
    work.add(gated_part(args.gate, args.up, args.inner));
    work.gated = true;
    work.function = args.function;
  }
  const ProductForm form = args.gate.form;
  const bool streamed = in_pairs && streams(kind, form, work);
  if (streamed && norms_in_passing(x) && routes_in_passing(args.route)) {
    if (args.route != nullptr) work.router = router_of(args);
    run_normed(stream, kind, x, work);
    choose_if_asked(stream, args);
    return true;
  }
  settle(stream, in_place(x.stream), {x.h, x.norm}, args.sparse, x.rows);
  if (streamed) {
    run_stream(stream, x.overlap, kind, work);
  } else if (in_pairs && form != ProductForm::kStream && wide_fits(work.tokens)) {
    run_wide(stream, x.overlap, kind, work, x.workspace);
  } else {
    linear(stream, linear_of(x, args.gate, args.gate_room));
    linear(stream, linear_of(x, args.up, args.inner));
    activate(stream, args.inner, args.gate_room, args.inner, x.rows * args.gate.matrix.rows,
             args.function);
  }
  if (args.route != nullptr) route_logits(stream, *args.route);
  choose_if_asked(stream, args);
  return false;
}

}  // namespace facet::cuda
