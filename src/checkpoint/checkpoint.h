#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace facet {

/// A model folder: config.json, hf_quant_config.json and generation_config.json if they are there,
/// and every tensor of model.safetensors or of the shards that model.safetensors.index.json names
/// (ST-4).
class Checkpoint {
 public:
  /// Maps and validates all files; reads no weights. Throws Error{kBadCheckpoint} or Error{kIo}.
  explicit Checkpoint(const std::string& folder);
  Checkpoint(Checkpoint&&) noexcept = default;

  const std::string& folder() const { return folder_; }
  const boost::json::object& config() const { return config_; }
  const std::optional<boost::json::object>& hf_quant_config() const { return hf_quant_config_; }
  const std::optional<boost::json::object>& generation_config() const { return generation_config_; }

  /// All tensors of all files, sorted by name; each name once.
  const std::vector<const StoredTensor*>& tensors() const { return tensors_; }
  const StoredTensor* find(std::string_view name) const;
  /// Bytes of all safetensors files.
  int64_t file_bytes() const;

 private:
  std::string folder_;
  boost::json::object config_;
  std::optional<boost::json::object> hf_quant_config_;
  std::optional<boost::json::object> generation_config_;
  std::vector<SafetensorsFile> files_;
  std::vector<const StoredTensor*> tensors_;
};

}  // namespace facet
