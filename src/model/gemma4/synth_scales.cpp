#include "model/gemma4/synth_scales.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace facet::gemma4 {
namespace {

/// Of logits and, since the table is tied, of the embedded stream: E has this over sqrt(H).
constexpr double kLogitStd = 3.0;
/// Of q·k. Softmax over n keys then looks at about n * exp(-9) of them: few keys, not the mean of
/// all, which would make all positions alike.
constexpr double kScoreStd = 3.0;
/// Of router logits: the eight chosen get uneven weights, none of them all.
constexpr double kRouterStd = 1.5;
/// What the branches add to the stream. The gated feed-forward branch makes positions differ,
/// attention makes them alike; so it adds less.
constexpr double kAttentionAdds = 0.5;
constexpr double kFeedForwardAdds = 1.0;
constexpr double kPerLayerAdds = 0.5;
/// Most that the last token's own logit may exceed the others by, in their standard deviations.
/// With a tied table the embedding that is left in the stream votes for itself; were that vote the
/// largest, decoding would repeat one token.
constexpr double kSelfVote = 1.0;
constexpr double kLeastLayerScalar = 0.01;
constexpr double kMostLayerScalar = 0.95;

constexpr double kNormSpread = 0.1;
constexpr double kExpertScaleSpread = 0.3;
/// Of a few thousand values of mean square 1; of a product of two, one of them through GELU.
constexpr double kNormedAmax = 8.0;
constexpr double kGatedAmax = 16.0;
constexpr double kCacheAmax = 6.0;
constexpr double kLargestE4m3 = 448.0;

double square(double x) { return x * x; }

double k_norm(int64_t head_dim) { return kScoreStd / std::sqrt(static_cast<double>(head_dim)); }

}  // namespace

SynthScales::SynthScales(const Gemma4Config& config)
    : config_(config), layer_scalar_(find_layer_scalar()) {}

/// The largest scalar that lets the embedding fade enough over all layers.
double SynthScales::find_layer_scalar() const {
  const double added = square(kAttentionAdds) + square(kFeedForwardAdds) +
                       (config_.hidden_size_per_layer_input > 0 ? square(kPerLayerAdds) : 0.0);
  const auto self_vote = [&](double scalar) {
    double embedded = square(kLogitStd);  // what is left of the embedding, mean square
    double stream = embedded;
    for (int32_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      embedded *= square(scalar);
      stream = (stream + added) * square(scalar);
    }
    return std::sqrt(embedded / stream * config_.hidden_size);
  };
  double low = kLeastLayerScalar;
  double high = kMostLayerScalar;
  for (int32_t step = 0; step < 40; ++step) {
    const double middle = 0.5 * (low + high);
    (self_vote(middle) > kSelfVote ? high : low) = middle;
  }
  return low;
}

double SynthScales::matrix(std::string_view module, int64_t cols) const {
  if (module == "embed_tokens_per_layer") {
    return 1.0 / std::sqrt(static_cast<double>(config_.hidden_size_per_layer_input));
  }
  const double unit = 1.0 / std::sqrt(static_cast<double>(cols));
  if (module == "embed_tokens" || module == "lm_head") return kLogitStd * unit;
  // The router's input is scaled by H^-1/2 already.
  if (module.ends_with(".router.proj")) return kRouterStd;
  return unit;
}

Law SynthScales::vector(std::string_view name, int64_t length) const {
  const auto near = [](double mean) { return Law{Law::Shape::kNormal, mean, mean * kNormSpread}; };
  const struct {
    std::string_view suffix;
    Law law;
  } table[] = {
      {".layer_scalar", {Law::Shape::kUniform, layer_scalar_, 0.03 * layer_scalar_}},
      {".per_expert_scale", {Law::Shape::kUniform, 1.0, kExpertScaleSpread}},
      {".router.scale", near(1.0)},
      {".q_norm.weight", near(1.0)},
      {".k_norm.weight", near(k_norm(length))},
      {".post_attention_layernorm.weight", near(kAttentionAdds)},
      {".post_feedforward_layernorm.weight", near(kFeedForwardAdds)},
      {".post_feedforward_layernorm_1.weight", near(1.0)},
      {".post_feedforward_layernorm_2.weight", near(1.0)},
      {".post_per_layer_input_norm.weight", near(kPerLayerAdds)},
      {".input_layernorm.weight", near(1.0)},
      {".pre_feedforward_layernorm.weight", near(1.0)},
      {".pre_feedforward_layernorm_2.weight", near(1.0)},
      {"per_layer_projection_norm.weight", near(1.0)},
      {"norm.weight", near(1.0)},
  };
  const auto found = std::find_if(std::begin(table), std::end(table),
                                  [&](const auto& row) { return name.ends_with(row.suffix); });
  CHECK(found != std::end(table), "no law for {}", name);
  return found->law;
}

double SynthScales::input_amax(std::string_view module) const {
  return module.ends_with(".down_proj") ? kGatedAmax : kNormedAmax;
}

double SynthScales::k_scale(int64_t head_dim) const {
  return kCacheAmax * k_norm(head_dim) / kLargestE4m3;
}

double SynthScales::v_scale() const { return kCacheAmax / kLargestE4m3; }

}  // namespace facet::gemma4
