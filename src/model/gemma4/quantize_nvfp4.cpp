#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>
#include <fmt/core.h>
#include <map>
#include <string_view>
#include <vector>

#include "model/gemma4/checkpoint_quantizer.h"
#include "model/gemma4/quantize.h"
#include "quant/nvfp4.h"

namespace facet::gemma4 {
namespace {

constexpr float kAmaxPerScale = 6.0F * 448.0F;  // the largest E2M1 times the largest E4M3
constexpr const char* kProducer = "facet";

class Nvfp4Quantizer final : public CheckpointQuantizer {
 public:
  explicit Nvfp4Quantizer(const QuantizeJob& job) : CheckpointQuantizer(job) {
    for (size_t l = 0; l < job.weights.layers.size(); ++l) {
      if (job.config.num_experts > 0) {
        add_experts(l, kNvfp4Block);
        continue;
      }
      const MlpWeights& mlp = job.weights.layers[l].mlp;
      const std::string at = fmt::format("{}layers.{}.mlp.", prefix(), l);
      if (!mlp.gate_proj.empty()) add(at + "gate_proj", mlp.gate_proj, kNvfp4Block);
      add(at + "up_proj", mlp.up_proj, kNvfp4Block);
      add(at + "down_proj", mlp.down_proj, kNvfp4Block);
    }
  }

 private:
  std::vector<Part> parts(const WeightMatrix& matrix) const override {
    const int64_t rows = matrix.rows;
    const int64_t cols = matrix.cols;
    std::vector<Part> all = {{"weight", DType::kU8, {rows, cols / 2}},
                             {"weight_scale", DType::kF8E4M3, {rows, cols / kNvfp4Block}},
                             {"weight_scale_2", DType::kF32, {}}};
    if (job().ranges != nullptr) all.push_back({"input_scale", DType::kF32, {}});
    return all;
  }

  void supply(const std::string& module, const std::string& suffix, const Sink& sink) override {
    if (suffix == "weight_scale_2" || suffix == "input_scale") {
      const float value = suffix == "input_scale" ? input_scale(module) : global_scale(module);
      sink(std::as_bytes(std::span(&value, 1)));
      return;
    }
    const Nvfp4Matrix& quantized = quantize(module);
    sink(std::as_bytes(std::span(suffix == "weight" ? quantized.codes : quantized.scales)));
  }

  float amax(const std::string& module) const {
    float largest = 0;
    for (const float value : values(module)) largest = std::max(largest, std::abs(value));
    return largest;
  }

  /// weight_scale_2 of a matrix: gate and up of one MLP share the larger amax of both, over 2688.
  float global_scale(const std::string& module) {
    const auto known = scales_.find(module);
    if (known != scales_.end()) return known->second;
    float largest = amax(module);
    const std::string partner = partner_of(module);
    if (targets().contains(partner)) largest = std::max(largest, amax(partner));
    const float scale = largest > 0 ? largest / kAmaxPerScale : 1.0F;
    scales_.emplace(module, scale);
    return scale;
  }

  /// up_proj of a gate_proj and the other way round; nothing for down_proj.
  static std::string partner_of(const std::string& module) {
    const size_t leaf = module.rfind('.') + 1;
    if (module.substr(leaf) == "gate_proj") return module.substr(0, leaf) + "up_proj";
    if (module.substr(leaf) == "up_proj") return module.substr(0, leaf) + "gate_proj";
    return {};
  }

  /// amax(|input|) / 2688. An expert that calibration never reached takes the largest of its like
  /// (2.5).
  float input_scale(const std::string& module) const {
    const auto range_of = [&](const WeightMatrix& matrix) {
      const auto found = job().ranges->find(matrix.data);
      return found == job().ranges->end() ? 0.0F : found->second;
    };
    float largest = range_of(targets().at(module));
    if (largest == 0.0F) {
      const std::string_view leaf = std::string_view(module).substr(module.rfind('.'));
      for (const auto& [name, other] : targets()) {
        if (name.ends_with(leaf)) largest = std::max(largest, range_of(other));
      }
    }
    return largest > 0.0F ? largest / kAmaxPerScale : 1.0F;
  }

  /// Codes and scales are asked for apart; a matrix is quantised anew for each unless it is the
  /// last one.
  const Nvfp4Matrix& quantize(const std::string& module) {
    if (quantized_module_ != module) {
      const WeightMatrix& m = targets().at(module);
      quantized_ = quantize_nvfp4(values(module), m.rows, m.cols, global_scale(module));
      quantized_module_ = module;
    }
    return quantized_;
  }

  /// What the producer leaves out, in NVIDIA's style: one pattern per layer and part.
  boost::json::array ignored() const {
    boost::json::array patterns = {"lm_head", "model.embed_vision*", "model.vision_tower*",
                                   "model.embed_audio*", "model.audio_tower*"};
    const bool dense = job().config.num_experts == 0;
    const bool per_layer = job().config.hidden_size_per_layer_input > 0;
    for (int32_t l = 0; l < job().config.num_hidden_layers; ++l) {
      for (const std::string_view part : {"mlp", "router", "self_attn", "per_layer"}) {
        const bool absent = part == "per_layer" && !per_layer;
        const bool quantised = dense && part == "mlp";
        const bool no_router = dense && part == "router";
        if (absent || quantised || no_router) continue;
        patterns.emplace_back(fmt::format("{}layers.{}.{}*", prefix(), l, part));
      }
    }
    if (per_layer) patterns.emplace_back(prefix() + "per_layer_model_projection");
    return patterns;
  }

  const char* algorithm() const { return job().ranges != nullptr ? "NVFP4" : "W4A16_NVFP4"; }

  boost::json::object new_config() const {
    const boost::json::object four_bits = {
        {"dynamic", false}, {"num_bits", 4}, {"type", "float"}, {"group_size", kNvfp4Block}};
    boost::json::object group = {{"weights", four_bits}, {"targets", boost::json::array{"Linear"}}};
    if (job().ranges != nullptr) group["input_activations"] = four_bits;
    boost::json::object config = job().checkpoint.config();
    config["quantization_config"] = boost::json::object{
        {"quant_method", "modelopt"},
        {"quant_algo", algorithm()},
        {"config_groups", boost::json::object{{"group_0", std::move(group)}}},
        {"ignore", ignored()},
        {"producer", boost::json::object{{"name", kProducer}}},
    };
    return config;
  }

  boost::json::object hf_quant_config() const {
    return {{"producer", boost::json::object{{"name", kProducer}}},
            {"quantization", boost::json::object{{"quant_algo", algorithm()},
                                                 {"kv_cache_quant_algo", nullptr},
                                                 {"group_size", kNvfp4Block},
                                                 {"exclude_modules", ignored()}}}};
  }

  void write_configs(const std::string& out) const override {
    write_json(out + "/hf_quant_config.json", hf_quant_config());
    write_json(out + "/config.json", new_config());
  }

  std::map<std::string, float> scales_;  // by module
  std::string quantized_module_;
  Nvfp4Matrix quantized_;
};

}  // namespace

void quantize_to_nvfp4(const QuantizeJob& job, const std::string& out, const OnBytes& on_bytes) {
  Nvfp4Quantizer(job).write(out, on_bytes);
}

}  // namespace facet::gemma4
