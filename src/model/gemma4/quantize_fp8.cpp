#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/core.h>
#include <optional>
#include <vector>

#include "model/gemma4/checkpoint_quantizer.h"
#include "model/gemma4/quantize.h"
#include "quant/fp8.h"

namespace facet::gemma4 {
namespace {

/// A stored tensor as a matrix, if it is one of plain values.
std::optional<WeightMatrix> plain_matrix(const StoredTensor* tensor) {
  if (tensor == nullptr || tensor->shape.rank() != 2) return std::nullopt;
  WeightMatrix matrix;
  if (tensor->dtype == DType::kF32) {
    matrix.format = WeightFormat::kF32;
  } else if (tensor->dtype == DType::kF16) {
    matrix.format = WeightFormat::kF16;
  } else if (tensor->dtype != DType::kBF16) {
    return std::nullopt;
  }
  matrix.rows = tensor->shape[0];
  matrix.cols = tensor->shape[1];
  matrix.data = tensor->bytes.data();
  return matrix;
}

class Fp8Quantizer final : public CheckpointQuantizer {
 public:
  explicit Fp8Quantizer(const QuantizeJob& job) : CheckpointQuantizer(job) {
    for (size_t l = 0; l < job.weights.layers.size(); ++l) {
      const std::string at = fmt::format("{}layers.{}.", prefix(), l);
      // By stored tensor: k_proj and v_proj of layers that read another layer's cache are in the
      // file, and other engines expect all Linears to be quantised alike.
      for (const char* part : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
        const std::string module = at + "self_attn." + part;
        const auto matrix = plain_matrix(job.checkpoint.find(module + ".weight"));
        if (matrix) add(module, *matrix);
      }
      const MlpWeights& mlp = job.weights.layers[l].mlp;
      if (!mlp.gate_proj.empty()) add(at + "mlp.gate_proj", mlp.gate_proj);
      add(at + "mlp.up_proj", mlp.up_proj);
      add(at + "mlp.down_proj", mlp.down_proj);
      if (job.config.layers[l].sparse) add_experts(l);
    }
  }

 private:
  std::vector<Part> parts(const WeightMatrix& matrix) const override {
    return {{"weight", DType::kF8E4M3, {matrix.rows, matrix.cols}},
            {"weight_scale", DType::kBF16, {matrix.rows, 1}}};
  }

  void supply(const std::string& module, const std::string& suffix, const Sink& sink) override {
    if (quantized_module_ != module) {
      const WeightMatrix& m = targets().at(module);
      quantized_ = quantize_fp8_channel(values(module), m.rows, m.cols);
      quantized_module_ = module;
    }
    if (suffix == "weight") {
      sink(std::as_bytes(std::span(quantized_.values)));
    } else {
      sink(std::as_bytes(std::span(quantized_.scales)));
    }
  }

  boost::json::array ignored() const {
    boost::json::array patterns = {"lm_head", "re:.*router.*", "re:.*vision.*", "re:.*embed.*"};
    if (job().config.has_audio) patterns.emplace_back("re:.*audio.*");
    if (job().config.hidden_size_per_layer_input > 0) patterns.emplace_back("re:.*per_layer.*");
    return patterns;
  }

  void write_configs(const std::string& out) const override {
    const boost::json::object weights = {{"dynamic", false},
                                         {"num_bits", 8},
                                         {"strategy", "channel"},
                                         {"symmetric", true},
                                         {"type", "float"}};
    const boost::json::object activations = {{"dynamic", true},
                                             {"num_bits", 8},
                                             {"strategy", "token"},
                                             {"symmetric", true},
                                             {"type", "float"}};
    const boost::json::object group = {{"format", "float-quantized"},
                                       {"input_activations", activations},
                                       {"targets", boost::json::array{"Linear"}},
                                       {"weights", weights}};
    boost::json::object config = job().checkpoint.config();
    config["quantization_config"] =
        boost::json::object{{"config_groups", boost::json::object{{"group_0", group}}},
                            {"format", "float-quantized"},
                            {"ignore", ignored()},
                            {"kv_cache_scheme", nullptr},
                            {"quant_method", "compressed-tensors"},
                            {"quantization_status", "compressed"}};
    write_json(out + "/config.json", config);
  }

  std::string quantized_module_;  // of quantized_
  Fp8Matrix quantized_;
};

}  // namespace

void quantize_to_fp8(const QuantizeJob& job, const std::string& out, const OnBytes& on_bytes) {
  Fp8Quantizer(job).write(out, on_bytes);
}

}  // namespace facet::gemma4
