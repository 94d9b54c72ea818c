#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace facet::test {

struct EditableTensor {
  DType dtype = DType::kF32;
  Shape shape;
  std::string bytes;  ///< row-major, little-endian, as the file holds them
};

/// A checkpoint in memory, to be changed and written elsewhere: most tests of the loader are "this
/// checkpoint, but with …". A name that is not there throws std::out_of_range.
class CheckpointEditor {
 public:
  explicit CheckpointEditor(const std::string& folder);

  std::map<std::string, EditableTensor>& tensors() { return tensors_; }
  EditableTensor& tensor(const std::string& name);
  boost::json::object& config() { return config_; }
  std::optional<boost::json::object>& hf_quant() { return hf_quant_; }

  void erase(const std::string& name);
  /// `to` must be free.
  void rename(const std::string& from, const std::string& to);
  /// The value of an F32 tensor of one element; throws std::invalid_argument for any other.
  float scalar_f32(const std::string& name);
  void set_scalar_f32(const std::string& name, float value);

  /// Writes a whole checkpoint into `folder`, which is made: model.safetensors, or with more than
  /// one shard an index, the tensors dealt round in the order of their names; the JSON files; and
  /// the tokenizer and chat template if the source has them.
  void save(const std::string& folder, int32_t shards = 1) const;

 private:
  std::string source_;
  boost::json::object config_;
  std::optional<boost::json::object> hf_quant_;
  std::map<std::string, EditableTensor> tensors_;
};

}  // namespace facet::test
