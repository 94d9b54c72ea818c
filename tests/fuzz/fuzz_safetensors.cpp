// A safetensors file of any bytes: it is refused with an Error, or every tensor lies in the file,
// in order, without hole or overlap, and can be read.

#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/error.h"
#include "checkpoint/safetensors.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  try {
    const facet::SafetensorsHeader header = facet::parse_safetensors(file);
    size_t total = 0;
    unsigned sum = 0;
    for (const facet::StoredTensor& tensor : header.tensors) {
      total += tensor.bytes.size();
      require(static_cast<size_t>(tensor.view().bytes()) == tensor.bytes.size());
      for (const std::byte value : tensor.bytes) sum += std::to_integer<unsigned>(value);
    }
    [[maybe_unused]] volatile unsigned read = sum;
    require(total < size);
    require(header.tensors.empty() ||
            header.tensors.back().bytes.data() + header.tensors.back().bytes.size() ==
                file.data() + file.size());
    require(header.by_name.size() == header.tensors.size());
    for (size_t i = 1; i < header.by_name.size(); ++i) {
      require(header.tensors[header.by_name[i - 1]].name < header.tensors[header.by_name[i]].name);
    }
  } catch (const facet::Error& error) {
    require(error.code() == facet::ErrorCode::kBadCheckpoint);
  }
  return 0;
}
