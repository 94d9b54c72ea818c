#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace facet {

constexpr size_t kMaxTensorName = 4096;  // bytes (ST-1)

/// One member of a safetensors header as written: offsets are bytes from the start of the data,
/// at least 0, and not yet checked against anything.
struct HeaderEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t begin = 0;
  int64_t end = 0;
};

struct HeaderText {
  std::vector<HeaderEntry> entries;  // in the order of the text
  std::map<std::string, std::string> metadata;
};

/// The JSON of a safetensors header. Each tensor must have dtype, shape and data_offsets once;
/// other members of an entry are skipped, as the reference reader does. Numbers are integers of 0
/// to 2^63 - 1, ranks at most 8, names at most 4 KiB. Names of tensors may still repeat. Throws
/// Error{kBadCheckpoint} naming tensor, field and byte of the header.
HeaderText parse_header_text(std::string_view json);

/// elements x bits per element; nullopt if an extent is negative or 64 bits overflow. A multiple of
/// 8 for a tensor that can be stored.
std::optional<int64_t> stored_bits(DType dtype, const Shape& shape);

}  // namespace facet
