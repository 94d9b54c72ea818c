#include "kernels/step_choice.h"

#include <fmt/core.h>

#include "base/error.h"

namespace facet {
namespace {

std::string names_of(const std::set<WeightFormat>& formats) {
  std::string names;
  for (const WeightFormat format : formats)
    names += fmt::format("{}{}", names.empty() ? "" : " and ", to_string(format));
  return names;
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
