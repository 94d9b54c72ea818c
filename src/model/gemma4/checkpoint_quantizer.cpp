#include "model/gemma4/checkpoint_quantizer.h"

#include <boost/json/serialize.hpp>
#include <cmath>
#include <fmt/core.h>
#include <optional>

#include "base/error.h"
#include "base/partial_file.h"
#include "model/gemma4/names.h"

namespace facet::gemma4 {
namespace {

std::string text_prefix(const Checkpoint& checkpoint) {
  constexpr std::string_view kEmbedding = "embed_tokens.weight";
  for (const StoredTensor* tensor : checkpoint.tensors()) {
    if (tensor->name.ends_with(kEmbedding)) {
      return tensor->name.substr(0, tensor->name.size() - kEmbedding.size());
    }
  }
  return "model.language_model.";
}

}  // namespace

CheckpointQuantizer::CheckpointQuantizer(const QuantizeJob& job)
    : job_(job), prefix_(text_prefix(job.checkpoint)) {}

bool CheckpointQuantizer::is_replaced(const std::string& name) const {
  const std::optional<TensorName> parsed = parse_tensor_name(name);
  return parsed && replaced_.contains(parsed->text);
}

void CheckpointQuantizer::add(const std::string& module,
                              const WeightMatrix& matrix,
                              int64_t columns) {
  const bool plain = matrix.format == WeightFormat::kBF16 || matrix.format == WeightFormat::kF16 ||
                     matrix.format == WeightFormat::kF32;
  if (!plain) {
    throw Error(
        ErrorCode::kBadCheckpoint,
        fmt::format("stored as {}, wanted BF16, F16 or F32 to quantise", to_string(matrix.format)),
        module);
  }
  if (matrix.cols % columns != 0) {
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("{} columns, wanted a multiple of {}", matrix.cols, columns), module);
  }
  targets_.emplace(module, matrix);
  replaced_.insert(module.substr(prefix_.size()) + ".weight");
}

void CheckpointQuantizer::add_experts(size_t layer, int64_t columns) {
  replaced_.insert(fmt::format("layers.{}.experts.gate_up_proj", layer));
  replaced_.insert(fmt::format("layers.{}.experts.down_proj", layer));
  const std::vector<ExpertMatrices>& experts = job_.weights.layers[layer].experts.experts;
  for (size_t e = 0; e < experts.size(); ++e) {
    const std::string at = fmt::format("{}layers.{}.experts.{}.", prefix_, layer, e);
    if (!experts[e].gate.empty()) add(at + "gate_proj", experts[e].gate, columns);
    add(at + "up_proj", experts[e].up, columns);
    add(at + "down_proj", experts[e].down, columns);
  }
}

std::vector<float> CheckpointQuantizer::values(const std::string& module) const {
  const WeightMatrix& m = targets_.at(module);
  std::vector<float> all(static_cast<size_t>(m.rows * m.cols));
  for (int64_t r = 0; r < m.rows; ++r) {
    dequantize_row(
        m, r, std::span(all).subspan(static_cast<size_t>(r * m.cols), static_cast<size_t>(m.cols)));
  }
  for (const float value : all) {
    if (!std::isfinite(value)) {
      throw Error(ErrorCode::kBadCheckpoint, fmt::format("holds {}", value), module);
    }
  }
  return all;
}

void CheckpointQuantizer::write(const std::string& out, const OnBytes& on_bytes) {
  SafetensorsWriter writer(SafetensorsWriter::Metadata{{"format", "pt"}});
  int64_t total = 0;
  const auto declare = [&](const std::string& name, DType dtype, const Shape& shape) {
    writer.declare(name, dtype, shape);
    total += shape.elements() * bits_of(dtype) / 8;
  };
  for (const StoredTensor* tensor : job_.checkpoint.tensors()) {
    if (!is_replaced(tensor->name)) declare(tensor->name, tensor->dtype, tensor->shape);
  }
  for (const auto& [module, matrix] : targets_) {
    for (const Part& part : parts(matrix)) {
      declare(module + "." + part.suffix, part.dtype, part.shape);
    }
  }
  int64_t done = 0;
  writer.write(out + "/model.safetensors",
               [&](const SafetensorsWriter::Tensor& tensor, const Sink& sink) {
                 const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
                 if (targets_.contains(module)) {
                   supply(module, tensor.name.substr(module.size() + 1), sink);
                 } else {
                   sink(job_.checkpoint.find(tensor.name)->bytes);
                 }
                 done += tensor.bytes;
                 on_bytes(done, total);
               });
  write_configs(out);
}

void CheckpointQuantizer::write_json(const std::string& path, const boost::json::object& object) {
  write_file(path, boost::json::serialize(object) + '\n');
}

}  // namespace facet::gemma4
