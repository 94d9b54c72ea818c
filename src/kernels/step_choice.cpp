#include "kernels/step_choice.h"

#include <bit>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace facet {
namespace {

constexpr int64_t kColumns = 64;       // that products take at a time
constexpr int64_t kChunkedSteps = 16;  // of so many on, K is cut into chunks

/// Whether a product's K is not cut into chunks.
bool narrow(int64_t cols) { return cols % kColumns != 0 || cols / kColumns < kChunkedSteps; }

std::string names_of(const std::set<WeightFormat>& formats) {
  std::vector<std::string_view> names;
  for (const WeightFormat format : formats) names.push_back(to_string(format));
  return fmt::format("{}", fmt::join(names, " and "));
}

std::string asked(std::string_view option, std::string_view value) {
  return fmt::format("{} {} was asked for", option, value);
}

/// What stands between these layers and one launch; empty: nothing.
std::string obstacle(const GpuSetup& setup, const StepQuery& q) {
  const KernelWishes& wishes = setup.wishes;
  if (setup.device.major != 9) return "one launch for all layers was made for Hopper (sm_90)";
  if (wishes.attention == AttentionWish::kPlain) return asked(kAttentionOption, "plain");
  if (wishes.linears != FormWish::kAuto)
    return asked(kLinearOption, kFormNames[static_cast<size_t>(wishes.linears)]);
  if (wishes.experts != FormWish::kAuto)
    return asked(kExpertOption, kFormNames[static_cast<size_t>(wishes.experts)]);
  if (q.experts.empty()) return "one launch takes layers with experts";
  if (q.experts != std::set{WeightFormat::kNvfp4})
    return fmt::format("experts are {}, one launch takes NVFP4", names_of(q.experts));
  if (q.matrices != std::set{WeightFormat::kBF16})
    return fmt::format("matrices are {}, one launch takes BF16", names_of(q.matrices));
  if (q.kv != DType::kBF16)
    return fmt::format("the cache is {}, one launch takes BF16 (--kv-dtype bf16)", to_string(q.kv));
  if (q.gating != Gating::kGated) return "one launch takes gated activations";
  if (!q.own_caches) return "layers read each other's cache";
  if (q.per_layer_inputs) return "layers have inputs of their own";
  bool fits = step_widths_fit(q.widths) && q.kinds.size() <= 2;
  for (const StepKind& kind : q.kinds) fits = fits && step_kind_fits(kind, 1);
  return fits ? "" : "one launch takes the sizes of Gemma 4 26B-A4B";
}

}  // namespace

bool step_kind_fits(const StepKind& kind, int32_t tokens) {
  constexpr int32_t kShared =
      8;  // columns of attention's products: heads, with two pieces of a window
  if (kind.kv_heads <= 0 || kind.q_heads % kind.kv_heads != 0) return false;
  const int32_t group = kind.q_heads / kind.kv_heads;
  const bool window = kind.window > 0;
  // Of heads of 256, up to four tokens are attended to at once: by so few warps, which weigh a
  // column each, in one part.
  const bool few = kind.head_dim == 256 && tokens > 2;
  const int32_t columns = few ? kShared / 2 : kShared;
  // Of heads of 256, cells of several tokens have room for so many (kCellRoom).
  const bool crowded = kind.head_dim == 256 && tokens > 1 && group > kShared / 2;
  // o's x may come in two rounds, each of whole slots of every chunk (TokenSizes::kRounds).
  constexpr int32_t kChunks = 4;
  const int64_t o_unit = (tokens > 4 ? 4 : 1) * kChunks * kColumns;
  const int64_t q_rows = int64_t{kind.q_heads} * kind.head_dim;
  return (kind.head_dim == 256 || kind.head_dim == 512) &&
         std::has_single_bit(static_cast<uint32_t>(group)) && group * (window ? 2 : 1) <= columns &&
         kind.angles <= kTokenAngles && !narrow(q_rows) && q_rows <= kTokenHeadRows &&
         q_rows % o_unit == 0 && !crowded && (window || !few) &&
         (!window || kind.window >= 16);  // copies of 16 positions: some of them seen at an end
}

bool step_widths_fit(const StepWidths& w) {
  return w.hidden == kTokenHidden && !narrow(w.dense_width) && w.dense_width <= kTokenHidden &&
         w.expert_width % kColumns == 0 && w.expert_width / kColumns <= kTokenWidthSteps &&
         narrow(w.expert_width) && w.top_k >= 1 && w.top_k <= kTokenExperts &&
         w.top_k <= w.experts && w.experts <= kTokenChoices;
}

KernelChoice choose_step(const GpuSetup& setup, const StepQuery& query) {
  const StepWish wish = setup.wishes.steps;
  const std::string apart = "launches for each part of a layer";
  if (wish == StepWish::kApart) return {apart, asked(kStepOption, "apart")};
  const std::string why_not = obstacle(setup, query);
  if (!why_not.empty()) {
    if (wish == StepWish::kWhole) {
      throw Error(ErrorCode::kUsage, fmt::format("{}; auto and apart work", why_not),
                  fmt::format("{} whole", kStepOption));
    }
    return {apart, why_not};
  }
  const std::string whole =
      fmt::format("all layers in one launch for decode steps of up to {} streams", kMostTokens);
  if (wish == StepWish::kWhole) {
    return {whole, fmt::format("{}; contexts beyond {} positions take launches for each part",
                               asked(kStepOption, "whole"), kTokenLongest)};
  }
  return {whole, fmt::format("it is faster where contexts are up to {} positions with one stream, "
                             "{} with up to 4, {} with more",
                             token_longest(1), token_longest(4), token_longest(kMostTokens))};
}

}  // namespace facet
