#include "checkpoint/block_scales.h"

#include <algorithm>

namespace facet {
namespace {

bool is_bad_scale(std::byte code) { return code >= std::byte{0x7f} && code != std::byte{0x80}; }

constexpr size_t kScanChunk = 4096;

/// Without a branch and of a fixed length, which compilers turn into vector code: large checkpoints
/// hold a gigabyte of block scales.
bool any_bad_scale(std::span<const std::byte, kScanChunk> codes) {
  uint8_t any = 0;
  for (size_t i = 0; i < kScanChunk; ++i) {
    const auto code = std::to_integer<uint8_t>(codes[i]);
    any = static_cast<uint8_t>(any | (code >= 0x7f && code != 0x80 ? 1 : 0));
  }
  return any != 0;
}

}  // namespace

int64_t find_bad_scale(std::span<const std::byte> codes) {
  size_t begin = 0;
  while (codes.size() - begin >= kScanChunk &&
         !any_bad_scale(codes.subspan(begin).first<kScanChunk>())) {
    begin += kScanChunk;
  }
  const auto rest = codes.subspan(begin);
  const auto at = std::find_if(rest.begin(), rest.end(), is_bad_scale);
  return at == rest.end() ? -1 : at - codes.begin();
}

}  // namespace facet
