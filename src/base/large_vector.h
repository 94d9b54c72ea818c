#pragma once

#include <cstddef>
#include <vector>

namespace facet {

/// Memory for tables of megabytes: where the system gives pages of 2 MB to those who ask, it is
/// made of them, which saves most page faults of a start. Throws std::bad_alloc.
void* allocate_large(size_t bytes);
void release_large(void* memory) noexcept;

/// std::vector's allocator over the above.
template <typename T>
struct LargeAllocator {
  using value_type = T;  // NOLINT(readability-identifier-naming): the standard's name

  LargeAllocator() = default;
  template <typename Other>
  LargeAllocator(const LargeAllocator<Other>& /*other*/) {}  // NOLINT(google-explicit-constructor)

  T* allocate(size_t count) { return static_cast<T*>(allocate_large(count * sizeof(T))); }
  void deallocate(T* memory, size_t /*count*/) noexcept { release_large(memory); }
  bool operator==(const LargeAllocator& /*other*/) const { return true; }
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace facet
