#include "kernels/activation.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(Activation, MapTakesNameAndGate) {
  EXPECT_EQ(to_string(*find_activation("silu", Gating::kGated)), "SwiGLU");
  EXPECT_EQ(to_string(*find_activation("gelu", Gating::kGated)), "GeGLU (tanh)");
  EXPECT_EQ(to_string(*find_activation("silu", Gating::kPlain)), "SiLU");
  EXPECT_EQ(to_string(*find_activation("gelu", Gating::kPlain)), "GELU (tanh)");
  EXPECT_EQ(to_string(*find_activation("relu2", Gating::kPlain)), "ReLU²");
}

TEST(Activation, Relu2WithAGateAndUnknownNamesAreRefused) {
  EXPECT_FALSE(find_activation("relu2", Gating::kGated).has_value());
  EXPECT_FALSE(find_activation("swish", Gating::kGated).has_value());
  EXPECT_FALSE(find_activation("").has_value());
  for (const char* name : {"silu", "gelu_pytorch_tanh", "relu2"}) {
    EXPECT_NE(accepted_activations().find(name), std::string::npos) << name;
  }
}

TEST(Activation, GemmasNameIsTheTanhFormWithAGate) {
  EXPECT_EQ(find_activation("gelu_pytorch_tanh"),
            (Activation{ActivationFunction::kGeluTanh, Gating::kGated}));
  EXPECT_EQ(find_activation("relu2"), (Activation{ActivationFunction::kRelu2, Gating::kPlain}));
}

}  // namespace
}  // namespace facet
