#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace facet {

/// Writes a safetensors file as the reference library lays it out, byte for byte: by dtype, the
/// widest alignment first, then by name; the data begins at a multiple of 8. First every tensor is
/// declared, then write() asks for the bytes of each in the order of the file, so that a model of
/// any size streams through.
class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    DType dtype = DType::kF32;
    Shape shape;
    int64_t bytes = 0;
  };
  using Metadata = std::map<std::string, std::string>;
  /// Takes the next bytes of the tensor in hand.
  using Sink = std::function<void(std::span<const std::byte>)>;
  /// Hands all bytes of the tensor to the sink, in one piece or many.
  using Supply = std::function<void(const Tensor&, const Sink&)>;

  /// `metadata` becomes the file's __metadata__ unless empty; model files carry {"format", "pt"}.
  explicit SafetensorsWriter(Metadata metadata = {});

  /// Throws Error{kBadCheckpoint} if the file could not be read back: a name that is there already,
  /// is "__metadata__", ill-formed UTF-8 or over 4 KiB, a negative extent, a size that overflows
  /// or fills no whole bytes.
  void declare(const std::string& name, DType dtype, const Shape& shape);

  /// Writes `path`. The bytes go to a temporary file beside it, which takes the name once all is on
  /// disk; after a failure nothing of it is left and an older `path` is as it was. Throws
  /// Error{kIo} naming the file, Error{kInternal} if `supply` gives too few or too many bytes, and
  /// whatever `supply` throws.
  void write(const std::string& path, const Supply& supply) const;

 private:
  Metadata metadata_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace facet
