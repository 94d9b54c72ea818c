#include "model/gemma4/quantize.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <fmt/core.h>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/safetensors_writer.h"
#include "model/gemma4/names.h"
#include "quant/nvfp4.h"

namespace facet::gemma4 {
namespace {

constexpr float kAmaxPerScale = 6.0F * 448.0F;  // the largest E2M1 times the largest E4M3
constexpr const char* kProducer = "facet";

/// One matrix to quantise, under the name it gets.
struct Target {
  std::string module;
  WeightMatrix matrix;
  const WeightMatrix* partner = nullptr;  // gate's up and up's gate: they share their scales
};

float amax(const WeightMatrix& matrix) {
  std::vector<float> row(static_cast<size_t>(matrix.cols));
  float largest = 0;
  for (int64_t r = 0; r < matrix.rows; ++r) {
    dequantize_row(matrix, r, row);
    for (const float value : row) {
      if (!std::isfinite(value))
        throw Error(ErrorCode::kBadCheckpoint, fmt::format("holds {}", value));
      largest = std::max(largest, std::abs(value));
    }
  }
  return largest;
}

class Quantizer {
 public:
  explicit Quantizer(const QuantizeJob& job) : job_(job), prefix_(text_prefix()) {
    choose_targets();
  }

  void write(const std::string& out, const OnBytes& on_bytes) {
    SafetensorsWriter writer(SafetensorsWriter::Metadata{{"format", "pt"}});
    int64_t total = 0;
    const auto declare = [&](const std::string& name, DType dtype, const Shape& shape) {
      writer.declare(name, dtype, shape);
      total += shape.elements() * bits_of(dtype) / 8;
    };
    for (const StoredTensor* tensor : job_.checkpoint.tensors()) {
      if (!is_replaced(tensor->name)) declare(tensor->name, tensor->dtype, tensor->shape);
    }
    for (const auto& [module, target] : targets_) {
      const int64_t rows = target.matrix.rows;
      const int64_t cols = target.matrix.cols;
      declare(module + ".weight", DType::kU8, {rows, cols / 2});
      declare(module + ".weight_scale", DType::kF8E4M3, {rows, cols / kNvfp4Block});
      declare(module + ".weight_scale_2", DType::kF32, {});
      if (job_.ranges != nullptr) declare(module + ".input_scale", DType::kF32, {});
    }
    int64_t done = 0;
    writer.write(out + "/model.safetensors",
                 [&](const SafetensorsWriter::Tensor& tensor, const SafetensorsWriter::Sink& sink) {
                   supply(tensor, sink);
                   done += tensor.bytes;
                   on_bytes(done, total);
                 });
    write_json(out + "/config.json", new_config());
    write_json(out + "/hf_quant_config.json", hf_quant_config());
  }

  bool is_replaced(const std::string& name) const {
    const std::optional<TensorName> parsed = parse_tensor_name(name);
    return parsed && replaced_.contains(parsed->text);
  }

 private:
  /// What stands before text names in this checkpoint: "model.language_model." or "model.".
  std::string text_prefix() const {
    constexpr std::string_view kEmbedding = "embed_tokens.weight";
    for (const StoredTensor* tensor : job_.checkpoint.tensors()) {
      if (tensor->name.ends_with(kEmbedding)) {
        return tensor->name.substr(0, tensor->name.size() - kEmbedding.size());
      }
    }
    return "model.language_model.";
  }

  void add_mlp(const std::string& base,
               const WeightMatrix& gate,
               const WeightMatrix& up,
               const WeightMatrix& down) {
    if (!gate.empty()) add_target(base + "gate_proj", gate, &up);
    add_target(base + "up_proj", up, gate.empty() ? nullptr : &gate);
    add_target(base + "down_proj", down, nullptr);
  }

  void add_target(const std::string& module,
                  const WeightMatrix& matrix,
                  const WeightMatrix* partner) {
    const bool plain = matrix.format == WeightFormat::kBF16 ||
                       matrix.format == WeightFormat::kF16 || matrix.format == WeightFormat::kF32;
    if (!plain) {
      throw Error(ErrorCode::kBadCheckpoint,
                  fmt::format("stored as {}, wanted BF16, F16 or F32 to quantise",
                              to_string(matrix.format)),
                  module);
    }
    if (matrix.cols % kNvfp4Block != 0) {
      throw Error(
          ErrorCode::kBadCheckpoint,
          fmt::format("{} columns, wanted a multiple of {} for NVFP4", matrix.cols, kNvfp4Block),
          module);
    }
    targets_.emplace(module, Target{module, matrix, partner});
    replaced_.insert(module.substr(prefix_.size()) + ".weight");
  }

  void choose_targets() {
    for (size_t l = 0; l < job_.weights.layers.size(); ++l) {
      const LayerWeights& layer = job_.weights.layers[l];
      const std::string at = fmt::format("{}layers.{}.", prefix_, l);
      if (job_.config.num_experts == 0) {
        add_mlp(at + "mlp.", layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj);
        continue;
      }
      replaced_.insert(fmt::format("layers.{}.experts.gate_up_proj", l));
      replaced_.insert(fmt::format("layers.{}.experts.down_proj", l));
      for (size_t e = 0; e < layer.experts.experts.size(); ++e) {
        const ExpertMatrices& expert = layer.experts.experts[e];
        add_mlp(fmt::format("{}experts.{}.", at, e), expert.gate, expert.up, expert.down);
      }
    }
  }

  /// weight_scale_2 of a matrix and its partner: the larger amax of both over 2688.
  float global_scale(const Target& target) {
    const auto known = scales_.find(target.module);
    if (known != scales_.end()) return known->second;
    float largest = in_place(target.module, [&] { return amax(target.matrix); });
    if (target.partner != nullptr) largest = std::max(largest, amax(*target.partner));
    const float scale = largest > 0 ? largest / kAmaxPerScale : 1.0F;
    scales_.emplace(target.module, scale);
    return scale;
  }

  /// amax(|input|) / 2688. An expert that calibration never reached takes the largest of its like
  /// (2.5).
  float input_scale(const Target& target) const {
    const auto range_of = [&](const WeightMatrix& matrix) {
      const auto found = job_.ranges->find(matrix.data);
      return found == job_.ranges->end() ? 0.0F : found->second;
    };
    float largest = range_of(target.matrix);
    if (largest == 0.0F) {
      const std::string_view leaf =
          std::string_view(target.module).substr(target.module.rfind('.'));
      for (const auto& [module, other] : targets_) {
        if (module.ends_with(leaf)) largest = std::max(largest, range_of(other.matrix));
      }
    }
    return largest > 0.0F ? largest / kAmaxPerScale : 1.0F;
  }

  void supply(const SafetensorsWriter::Tensor& tensor, const SafetensorsWriter::Sink& sink) {
    const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
    const auto found = targets_.find(module);
    if (found == targets_.end()) {
      sink(job_.checkpoint.find(tensor.name)->bytes);
      return;
    }
    const Target& target = found->second;
    const std::string suffix = tensor.name.substr(module.size() + 1);
    if (suffix == "weight_scale_2" || suffix == "input_scale") {
      const float value = suffix == "input_scale" ? input_scale(target) : global_scale(target);
      sink(std::as_bytes(std::span(&value, 1)));
      return;
    }
    const Nvfp4Matrix& quantized = quantize(target);
    sink(std::as_bytes(std::span(suffix == "weight" ? quantized.codes : quantized.scales)));
  }

  /// Codes and scales are asked for apart; a matrix is quantised anew for each unless it is the
  /// last one.
  const Nvfp4Matrix& quantize(const Target& target) {
    if (quantized_module_ != target.module) {
      const WeightMatrix& m = target.matrix;
      std::vector<float> values(static_cast<size_t>(m.rows * m.cols));
      for (int64_t r = 0; r < m.rows; ++r) {
        dequantize_row(m, r,
                       std::span(values).subspan(static_cast<size_t>(r * m.cols),
                                                 static_cast<size_t>(m.cols)));
      }
      quantized_ = quantize_nvfp4(values, m.rows, m.cols, global_scale(target));
      quantized_module_ = target.module;
    }
    return quantized_;
  }

  /// What the producer leaves out, in NVIDIA's style: one pattern per layer and part.
  boost::json::array ignored() const {
    boost::json::array patterns = {"lm_head", "model.embed_vision*", "model.vision_tower*",
                                   "model.embed_audio*", "model.audio_tower*"};
    const bool dense = job_.config.num_experts == 0;
    for (int32_t l = 0; l < job_.config.num_hidden_layers; ++l) {
      for (const char* part : {"mlp", "router", "self_attn", "per_layer"}) {
        const bool absent =
            std::string_view(part) == "per_layer" && job_.config.hidden_size_per_layer_input == 0;
        const bool quantised = dense && std::string_view(part) == "mlp";
        const bool no_router = dense && std::string_view(part) == "router";
        if (absent || quantised || no_router) continue;
        patterns.emplace_back(fmt::format("{}layers.{}.{}*", prefix_, l, part));
      }
    }
    if (job_.config.hidden_size_per_layer_input > 0) {
      patterns.emplace_back(prefix_ + "per_layer_model_projection");
    }
    return patterns;
  }

  const char* algorithm() const { return job_.ranges != nullptr ? "NVFP4" : "W4A16_NVFP4"; }

  boost::json::object new_config() const {
    const boost::json::object four_bits = {
        {"dynamic", false}, {"num_bits", 4}, {"type", "float"}, {"group_size", kNvfp4Block}};
    boost::json::object group = {{"weights", four_bits}, {"targets", boost::json::array{"Linear"}}};
    if (job_.ranges != nullptr) group["input_activations"] = four_bits;
    boost::json::object config = job_.checkpoint.config();
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

  static void write_json(const std::string& path, const boost::json::object& object) {
    std::ofstream out(path, std::ios::binary);
    out << boost::json::serialize(object) << '\n';
    out.close();
    if (!out) throw Error(ErrorCode::kIo, "cannot be written", path);
  }

  const QuantizeJob& job_;
  const std::string prefix_;
  std::map<std::string, Target> targets_;  // by module
  std::set<std::string> replaced_;         // text names of the input that the targets stand for
  std::map<std::string, float> scales_;
  std::string quantized_module_;
  Nvfp4Matrix quantized_;
};

}  // namespace

void quantize_to_nvfp4(const QuantizeJob& job, const std::string& out, const OnBytes& on_bytes) {
  Quantizer(job).write(out, on_bytes);
}

}  // namespace facet::gemma4
