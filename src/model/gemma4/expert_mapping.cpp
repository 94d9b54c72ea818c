#include "model/gemma4/expert_mapping.h"

#include <fmt/core.h>

namespace facet::gemma4 {

std::vector<ExpertParam> make_expert_params_mapping(int32_t num_experts, Gating gating) {
  std::vector<ExpertParam> params;
  params.reserve(static_cast<size_t>(num_experts) * 3);
  for (int32_t expert = 0; expert < num_experts; ++expert) {
    const auto add = [&](const char* name, ExpertProjection projection) {
      params.push_back({fmt::format("experts.{}.{}", expert, name), expert, projection});
    };
    if (gating == Gating::kGated) add("gate_proj", ExpertProjection::kGate);
    add("down_proj", ExpertProjection::kDown);
    add("up_proj", ExpertProjection::kUp);
  }
  return params;
}

}  // namespace facet::gemma4
