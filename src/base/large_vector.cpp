#include "base/large_vector.h"

#include <cstdint>
#include <cstdlib>
#include <new>
#include <sys/mman.h>

namespace facet {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kCacheLine = 64;

}  // namespace

void* allocate_large(size_t bytes) {
  const size_t unit = bytes < kLargePage ? kCacheLine : kLargePage;
  if (bytes > SIZE_MAX - unit) throw std::bad_alloc();
  const size_t whole = (bytes + unit - 1) / unit * unit;
  void* memory = std::aligned_alloc(unit, whole);
  if (memory == nullptr) throw std::bad_alloc();
  // Advice: a system without large pages says no, and nothing is lost.
  if (unit == kLargePage) madvise(memory, whole, MADV_HUGEPAGE);
  return memory;
}

void release_large(void* memory) noexcept { std::free(memory); }

}  // namespace facet
