#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "tensor/tensor.h"

namespace facet {

/// One tensor of a safetensors file: a view into the mapped file. Its bytes may lie at any address,
/// also an odd one, because a header may have any length: read elements with memcpy.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;  // owned by the SafetensorsFile
  std::string_view file;             // base name of the file, owned by the SafetensorsFile

  TensorView view() const { return {bytes.data(), dtype, shape}; }
};

/// A safetensors file, mapped and fully validated (checkpoint-formats 5.3 and ST-1, ST-2): whatever
/// can be wrong with its header has been refused by the constructor. Values are not looked at.
class SafetensorsFile {
 public:
  /// Throws Error{kBadCheckpoint} with the file's base name as place, or Error{kIo}.
  explicit SafetensorsFile(const std::string& path);
  SafetensorsFile(SafetensorsFile&&) noexcept = default;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept = default;

  /// In the order of their bytes in the file.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// nullptr if there is none of that name.
  const StoredTensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Size of the whole file.
  int64_t file_bytes() const { return static_cast<int64_t>(file_.bytes().size()); }

 private:
  MappedFile file_;
  std::unique_ptr<std::string> base_name_;  // on the heap: the tensors' views of it survive a move
  std::vector<StoredTensor> tensors_;
  std::vector<size_t> by_name_;  // indices into tensors_, sorted by name
  std::map<std::string, std::string> metadata_;
};

/// The tensors of a file given as bytes, which `bytes` of each points into; `file` stays empty.
/// This is the parser without the mapped file, for tests and fuzzing. Throws Error{kBadCheckpoint}.
struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in the order of their bytes
  std::vector<size_t> by_name;        // indices into tensors, sorted by name
  std::map<std::string, std::string> metadata;
};
SafetensorsHeader parse_safetensors(std::span<const std::byte> file);

}  // namespace facet
