#pragma once

// Copies that one thread asks for and a barrier in shared memory counts: they came with sm_90.
// Below, what is declared here is never called, but for the prefetch, which does nothing.

#include <cstdint>

namespace facet::cuda {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
inline constexpr bool kBulkCopies = true;
#else
inline constexpr bool kBulkCopies = false;
#endif

#if __CUDA_ARCH__ >= 900
/// For one arrival a turn: that of the thread that asks for copies.
__device__ __forceinline__ void barrier_init(uint32_t barrier) {
  asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(barrier) : "memory");
}
/// What this thread wrote to shared memory, barriers too, becomes visible to copies.
__device__ __forceinline__ void show_to_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// This turn ends once so many bytes have come.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
/// Waits for the end of a turn; turns have parity 0 and 1 in turn.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}
/// `bytes` is a multiple of 16, as both addresses are.
__device__ __forceinline__ void copy_bulk(
    uint32_t to, const void* from, uint32_t bytes, uint32_t barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}
/// Into L2.
__device__ __forceinline__ void prefetch_bulk(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
#else
__device__ __forceinline__ void barrier_init(uint32_t) { __trap(); }
__device__ __forceinline__ void show_to_copies() { __trap(); }
__device__ __forceinline__ void barrier_expect(uint32_t, uint32_t) { __trap(); }
__device__ __forceinline__ void barrier_wait(uint32_t, uint32_t) { __trap(); }
__device__ __forceinline__ void copy_bulk(uint32_t, const void*, uint32_t, uint32_t, uint64_t) {
  __trap();
}
__device__ __forceinline__ void prefetch_bulk(const void*, uint32_t) {}
#endif

/// Asks L2 for part `part` of `parts` of `bytes` bytes at `from`, which lie at 16 bytes.
__device__ __forceinline__ void prefetch_part(const uint8_t* from,
                                              int64_t bytes,
                                              int part,
                                              int parts) {
  const int64_t each = (bytes / 16 + parts - 1) / parts * 16;
  const int64_t begin = each * part;
  const int64_t end = begin + each < bytes / 16 * 16 ? begin + each : bytes / 16 * 16;
  if (begin < end) prefetch_bulk(from + begin, static_cast<uint32_t>(end - begin));
}

}  // namespace facet::cuda
