#include "tests/checkpoint_editor.h"

#include <boost/json/serialize.hpp>
#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"

namespace facet::test {
namespace {

namespace fs = std::filesystem;

void write_json(const fs::path& path, const boost::json::object& object) {
  std::ofstream out(path, std::ios::binary);
  out << boost::json::serialize(object) << '\n';
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

/// What save() may have left in `folder` before and would now contradict.
void remove_old_weights(const fs::path& folder) {
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model") && name.find(".safetensors") != std::string::npos)
      old.push_back(entry.path());
  }
  for (const fs::path& path : old) fs::remove(path);
  fs::remove(folder / "hf_quant_config.json");
}

/// Copies what the editor does not hold: the tokenizer, chat template and generation config.
void copy_companions(const fs::path& from, const fs::path& to) {
  if (fs::equivalent(from, to)) return;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("tokenizer") && !name.starts_with("chat_template") &&
        name != "generation_config.json")
      continue;
    // Not copy_file: the source may be read-only, and that would come along.
    std::ofstream out(to / name, std::ios::binary);
    out << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    if (!out) throw std::runtime_error("cannot write " + (to / name).string());
  }
}

}  // namespace

CheckpointEditor::CheckpointEditor(const std::string& folder) : source_(folder) {
  const Checkpoint checkpoint(folder);
  config_ = checkpoint.config();
  hf_quant_ = checkpoint.hf_quant_config();
  for (const StoredTensor* tensor : checkpoint.tensors()) {
    std::string bytes(reinterpret_cast<const char*>(tensor->bytes.data()), tensor->bytes.size());
    tensors_[tensor->name] = {tensor->dtype, tensor->shape, std::move(bytes)};
  }
}

EditableTensor& CheckpointEditor::tensor(const std::string& name) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw std::out_of_range("no tensor " + name);
  return found->second;
}

void CheckpointEditor::erase(const std::string& name) {
  tensor(name);
  tensors_.erase(name);
}

void CheckpointEditor::rename(const std::string& from, const std::string& to) {
  tensor(from);
  if (tensors_.contains(to)) throw std::invalid_argument("there is a tensor " + to + " already");
  auto node = tensors_.extract(from);
  node.key() = to;
  tensors_.insert(std::move(node));
}

float CheckpointEditor::scalar_f32(const std::string& name) {
  const EditableTensor& found = tensor(name);
  if (found.dtype != DType::kF32 || found.bytes.size() != sizeof(float))
    throw std::invalid_argument(name + " is no F32 scalar");
  float value = 0.0F;
  std::memcpy(&value, found.bytes.data(), sizeof(value));
  return value;
}

void CheckpointEditor::set_scalar_f32(const std::string& name, float value) {
  scalar_f32(name);
  std::memcpy(tensor(name).bytes.data(), &value, sizeof(value));
}

void CheckpointEditor::save(const std::string& folder, int32_t shards) const {
  fs::create_directories(folder);
  remove_old_weights(folder);
  boost::json::object weight_map;
  for (int32_t shard = 0; shard < shards; ++shard) {
    const std::string file =
        shards == 1 ? "model.safetensors"
                    : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
    SafetensorsWriter writer(SafetensorsWriter::Metadata{{"format", "pt"}});
    int32_t next = 0;
    for (const auto& [name, tensor] : tensors_) {
      if (next++ % shards != shard) continue;
      writer.declare(name, tensor.dtype, tensor.shape);
      weight_map[name] = file;
    }
    writer.write((fs::path(folder) / file).string(), [&](const auto& declared, const auto& sink) {
      sink(std::as_bytes(std::span(tensors_.at(declared.name).bytes)));
    });
  }
  if (shards > 1) {
    write_json(fs::path(folder) / "model.safetensors.index.json",
               {{"metadata", boost::json::object()}, {"weight_map", weight_map}});
  }
  write_json(fs::path(folder) / "config.json", config_);
  if (hf_quant_) write_json(fs::path(folder) / "hf_quant_config.json", *hf_quant_);
  copy_companions(source_, folder);
}

}  // namespace facet::test
