// What verify makes of a router that chooses other experts than the reference's: a fault where
// their probabilities say so, a tie where they are equal.

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "kernels/wrapped_backend.h"
#include "tests/checkpoint_editor.h"
#include "tests/golden/golden.h"
#include "tests/support.h"
#include "verify/verify.h"

namespace facet {
namespace {

/// Takes the last experts in place of each row's choice, with the weights of the choice.
class LastExperts final : public WrappedBackend {
 public:
  using WrappedBackend::WrappedBackend;

  void route(const Routing& routing,
             TensorView x,
             const RouterWeightsView& router,
             float eps) override {
    WrappedBackend::route(routing, x, router, eps);
    const auto experts = routing.experts.as<int32_t>();
    const auto top_k = static_cast<size_t>(routing.experts.shape()[1]);
    for (size_t i = 0; i < experts.size(); ++i) {
      experts[i] = static_cast<int32_t>(router.proj.rows) - 1 - static_cast<int32_t>(i % top_k);
    }
  }
};

VerifyReport verify_with_last_experts(const std::string& folder) {
  const Checkpoint checkpoint(folder);
  const auto ref = test::make_backend("ref");
  const auto cpu = test::make_backend("cpu");
  LastExperts fast(*cpu);
  test::LoadedModel ref_model(checkpoint, *ref);
  test::LoadedModel fast_model(checkpoint, fast);
  VerifyPlan plan;
  plan.ids = {2, 5, 9, 14, 100};
  plan.tie = kExact.routing;
  return run_verify({ref_model.model, *ref}, {fast_model.model, fast}, plan, [](int64_t) {});
}

TEST(VerifyRouting, OtherExpertsAreAFaultOfTheRouterAlone) {
  const VerifyReport report =
      verify_with_last_experts(test::data_path("goldens/moe-nvfp4-modelopt"));
  const std::vector<Fault> faults = find_faults(report, kExact);
  ASSERT_EQ(faults.size(), report.layers.size());
  for (size_t i = 0; i < faults.size(); ++i) {
    EXPECT_EQ(faults[i].where, "layer " + std::to_string(i) + " router") << faults[i].what;
    EXPECT_GT(report.layers[i].routing->gap, 0.01);
    EXPECT_EQ(report.layers[i].routing->rows, 5);
  }
  EXPECT_GT(report.free.logits.relative, 1e-3) << "the fault reached nothing";
}

TEST(VerifyRouting, ExpertsOfEqualProbabilityAreTies) {
  const test::TempDir dir;
  test::CheckpointEditor editor(test::data_path("goldens/moe-nvfp4-modelopt"));
  for (auto& [name, tensor] : editor.tensors()) {
    if (name.ends_with("router.proj.weight")) tensor.bytes.assign(tensor.bytes.size(), '\0');
    if (name.ends_with("router.per_expert_scale")) {
      // All as the first: the weights, too, say nothing of which expert it is.
      const std::string first = tensor.bytes.substr(0, 2);
      for (size_t at = 0; at < tensor.bytes.size(); at += 2) tensor.bytes.replace(at, 2, first);
    }
  }
  editor.save(dir.path("model"));
  const VerifyReport report = verify_with_last_experts(dir.path("model"));
  for (const Fault& fault : find_faults(report, kExact)) {
    ADD_FAILURE() << fault.where << ": " << fault.what;
  }
  for (const LayerReport& layer : report.layers) {
    ASSERT_TRUE(layer.routing.has_value());
    EXPECT_EQ(layer.routing->ties, 5);
    EXPECT_EQ(layer.routing->equal, 0);
  }
}

}  // namespace
}  // namespace facet
