#include "checkpoint/check_values.h"

#include <algorithm>
#include <cstring>
#include <fmt/core.h>

#include "checkpoint/fault_report.h"

namespace facet {
namespace {

/// Values looked at before the next question whether one was bad: a loop without a branch, which
/// compilers turn into vector code.
constexpr size_t kChunk = 4096;

template <typename Word>
Word load(const std::byte* bytes, size_t i) {
  Word word = 0;
  std::memcpy(&word, bytes + i * sizeof(Word), sizeof(Word));
  return word;
}

/// Index of the first value whose exponent bits are all ones, or -1.
template <typename Word>
int64_t find_not_finite(std::span<const std::byte> bytes, Word exponent) {
  const size_t count = bytes.size() / sizeof(Word);
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = std::min(begin + kChunk, count);
    Word any = 0;
    for (size_t i = begin; i < end; ++i) {
      const Word word = load<Word>(bytes.data(), i);
      any |= static_cast<Word>((word & exponent) == exponent);
    }
    if (any == 0) continue;
    for (size_t i = begin; i < end; ++i) {
      if ((load<Word>(bytes.data(), i) & exponent) == exponent) return static_cast<int64_t>(i);
    }
  }
  return -1;
}

int64_t find_not_finite(const StoredTensor& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return find_not_finite<uint32_t>(tensor.bytes, 0x7f800000);
    case DType::kBF16:
      return find_not_finite<uint16_t>(tensor.bytes, 0x7f80);
    case DType::kF16:
      return find_not_finite<uint16_t>(tensor.bytes, 0x7c00);
    case DType::kF8E4M3: {
      const auto nan = [](std::byte code) { return (code & std::byte{0x7f}) == std::byte{0x7f}; };
      const auto at = std::find_if(tensor.bytes.begin(), tensor.bytes.end(), nan);
      return at == tensor.bytes.end() ? -1 : at - tensor.bytes.begin();
    }
    default:
      return -1;
  }
}

}  // namespace

void check_values(const Checkpoint& checkpoint, const std::function<void(int64_t)>& progress) {
  FaultReport faults;
  int64_t done = 0;
  for (const StoredTensor* tensor : checkpoint.tensors()) {
    if (const int64_t at = find_not_finite(*tensor); at >= 0) {
      faults.bad(tensor->name, fmt::format("value {} is not a finite number", at));
    }
    done += static_cast<int64_t>(tensor->bytes.size());
    progress(done);
  }
  faults.throw_if_any();
}

}  // namespace facet
