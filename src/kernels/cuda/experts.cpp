#include "kernels/cuda/experts.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/carver.h"
#include "kernels/cuda/experts_kernels.h"

namespace facet::cuda {
namespace {

/// Whether the streaming kernels can take this call: few pairs, whose operands find room in shared
/// memory.
bool can_stream(const ExpertsWork& work) {
  const ExpertsLayer& layer = work.layer;
  return experts_stream_fits({layer.format, layer.hidden, work.rows, work.top_k},
                             most_shared_bytes());
}

bool streams(const ExpertsWork& work) {
  return work.layer.form != ProductForm::kTiled && can_stream(work);
}

void set_steps(ExpertsWork& work) {
  work.hidden_steps = static_cast<int32_t>(steps_of(work.layer.hidden));
  work.width_steps = static_cast<int32_t>(steps_of(work.layer.width));
}

/// Rows that are computed at a time.
int32_t pass_rows(const ExpertsLayer& layer, int32_t top_k) {
  if (layer.form != ProductForm::kStream) return kPassRows;
  ExpertsWork work = {.layer = layer, .rows = kStreamExpertRows, .top_k = top_k};
  set_steps(work);
  while (work.rows > 1 && !can_stream(work)) --work.rows;
  CHECK(can_stream(work), "experts [{}, {}], {} of them a row, in shared memory", layer.width,
        layer.hidden, top_k);
  return work.rows;
}

/// Whether tiles of kManyTokens find room in shared memory.
bool many_fit(const ExpertsLayer& layer) {
  constexpr int kRoom = 105 * 1024;  // BF16 takes 104 KiB; NVFP4 58
  return layer.format == WeightFormat::kNvfp4 || most_shared_bytes() >= kRoom;
}

/// Fills in what lies in the workspace; returns its size.
int64_t carve(ExpertsWork& work, std::byte* workspace) {
  const int64_t pairs = int64_t{work.rows} * work.top_k;
  set_steps(work);
  Carver carver(workspace);
  work.inner = carver.take<uint8_t>(pairs * work.width_steps * kStepBytesX);
  if (streams(work)) return carver.used();
  // Two tokens an expert and more waste less in small items; many are better in large ones.
  const bool few = pairs <= int64_t{20} * work.layer.count || !many_fit(work.layer);
  work.item_tokens = few ? kFewTokens : kManyTokens;
  work.wide = work.item_tokens == kManyTokens && device_has_wgmma();
  work.max_items = max_items(work.layer.count, static_cast<int32_t>(pairs), work.item_tokens);
  work.packed = carver.take<uint8_t>(int64_t{work.rows} * work.hidden_steps * kStepBytesX);
  work.parts = carver.take<float>(pairs * work.layer.hidden);
  work.sorted = carver.take<int32_t>(pairs);
  work.items = carver.take<int32_t>(1 + 3 * int64_t{work.max_items});
  return carver.used();
}

template <class F>
void run(cudaStream_t stream, const ExpertsCall& call) {
  std::optional<StreamWork> beside;
  if (call.beside != nullptr) {
    ExpertsWork all = {.layer = call.layer, .rows = call.rows, .top_k = call.top_k};
    carve(all, nullptr);
    if (streams(all)) beside = stream_beside(*call.beside);
    if (beside && !fits_beside(*beside)) beside.reset();
    if (!beside) linear(stream, *call.beside);
  }
  const int32_t most_rows = pass_rows(call.layer, call.top_k);
  for (int32_t first = 0; first < call.rows; first += most_rows) {
    ExpertsWork work = {.layer = call.layer,
                        .out = call.out + int64_t{first} * call.layer.hidden,
                        .x = call.x + int64_t{first} * call.layer.hidden,
                        .chosen = call.chosen + int64_t{first} * call.top_k,
                        .weights = call.weights + int64_t{first} * call.top_k,
                        .choice = call.choice,
                        .arrivals = call.arrivals,
                        .rows = std::min(most_rows, call.rows - first),
                        .top_k = call.top_k};
    carve(work, call.workspace);
    if (streams(work)) {
      experts_stream<F>(stream, call.overlap, work, beside);
    } else {
      experts_tiled<F>(stream, call.overlap, work);
    }
  }
}

}  // namespace

bool experts_fit(const ExpertsLayer& layer) {
  const int32_t unit = layer.format == WeightFormat::kNvfp4 ? 16 : 8;
  return (layer.format == WeightFormat::kNvfp4 || layer.format == WeightFormat::kBF16) &&
         layer.activation.gating == Gating::kGated &&
         layer.activation.function != ActivationFunction::kRelu2 && layer.hidden % unit == 0 &&
         layer.width % unit == 0;
}

bool experts_choose(const ExpertsLayer& layer, int32_t rows, int32_t top_k) {
  ExpertsWork work = {.layer = layer, .rows = rows, .top_k = top_k};
  set_steps(work);
  return layer.count <= kMostStreamExperts && top_k <= kMostChosen && streams(work);
}

int64_t experts_workspace_bytes(const ExpertsLayer& layer, int32_t rows, int32_t top_k) {
  // A smaller call may take the other kernels, or smaller items: the largest of what can occur.
  int64_t bytes = 0;
  rows = std::min(rows, pass_rows(layer, top_k));
  for (const int32_t few : {kStreamExpertRows, 20 * layer.count / std::max(top_k, 1), kPassRows}) {
    ExpertsWork work = {.layer = layer, .rows = std::min(rows, few), .top_k = top_k};
    bytes = std::max(bytes, carve(work, nullptr));
  }
  return bytes;
}

void experts(cudaStream_t stream, const ExpertsCall& call) {
  const ExpertsLayer& layer = call.layer;
  CHECK(experts_fit(layer), "{} experts [{}, {}], {}", to_string(layer.format), layer.width,
        layer.hidden, to_string(layer.activation));
  if (call.rows == 0) return;
  CHECK(call.choice.logits == nullptr || experts_choose(layer, call.rows, call.top_k),
        "a choice of {} from {} experts for {} rows", call.top_k, layer.count, call.rows);
  if (layer.format == WeightFormat::kNvfp4) return run<Nvfp4Steps>(stream, call);
  run<Bf16Steps>(stream, call);
}

}  // namespace facet::cuda
