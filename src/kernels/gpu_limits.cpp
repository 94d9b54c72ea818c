#include "kernels/gpu_limits.h"

#include <fmt/core.h>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kernels/kernel_choice.h"

namespace facet {
namespace {

void check_most(std::string_view field, int64_t found, int64_t most, const std::string& where) {
  if (found <= most) return;
  throw Error(ErrorCode::kBadCheckpoint,
              fmt::format("field {}: found {}, wanted at most {} {}; --backend cpu takes it", field,
                          found, most, where),
              "config.json");
}

/// The router's kernels keep a row of x in shared memory, as float32.
int64_t most_routed_width(const GpuSetup& setup) {
  constexpr int64_t kStatic = 1024;
  return (shared_memory_of(setup.device) - kStatic) / static_cast<int64_t>(sizeof(float));
}

void check_stream_wish(const GpuSetup& setup, const GpuDimensions& model) {
  if (setup.wishes.experts != FormWish::kStream) return;
  for (const WeightFormat format : model.expert_formats) {
    const ExpertsStreamShape one_row = {format, model.hidden_size, 1, model.top_k_experts};
    if (experts_stream_fits(one_row, shared_memory_of(setup.device))) continue;
    throw Error(
        ErrorCode::kUsage,
        fmt::format("cannot compute experts on {}: {} experts [{}, {}] of a row do not fit "
                    "in shared memory; auto, tiled and plain work",
                    to_string(setup.device), model.top_k_experts, model.moe_intermediate_size,
                    model.hidden_size),
        fmt::format("{} {}", kExpertOption, kFormNames[static_cast<size_t>(FormWish::kStream)]));
  }
}

}  // namespace

void check_dimensions(const GpuSetup& setup, const GpuDimensions& model) {
  const std::string anywhere = "on a GPU";
  check_most("vocab_size", model.vocab_size, kMostMatrixRows, anywhere);
  check_most("head_dim", model.head_dim, kMostHeadDim, anywhere);
  check_most("global_head_dim", model.global_head_dim, kMostHeadDim, anywhere);
  if (model.hidden_size_per_layer_input > 0) {
    // One matrix gives the per-layer inputs of all layers.
    check_most("hidden_size_per_layer_input", model.hidden_size_per_layer_input,
               kMostMatrixRows / model.num_hidden_layers,
               fmt::format("for {} layers on a GPU", model.num_hidden_layers));
  }
  if (model.num_experts == 0) return;
  check_most("num_experts", model.num_experts, kMostExperts, anywhere);
  check_most("top_k_experts", model.top_k_experts, kMostChosen, anywhere);
  check_most("hidden_size", model.hidden_size, most_routed_width(setup),
             fmt::format("with experts on {}", to_string(setup.device)));
  check_stream_wish(setup, model);
}

}  // namespace facet
