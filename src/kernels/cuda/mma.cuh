#pragma once

// The instructions that products are made of, one function each. What an older architecture lacks
// is left out there (overlapping launches: device.h says so to the host) or done by others.

#include <cstdint>

namespace facet::cuda {

/// c += a · b: a 16 rows x 16 columns of weights, b 16 columns x 8 tokens, BF16; sums in float32.
/// Of lane 4g + i: a0 holds row g, a1 row g + 8, a2 and a3 the same rows further right; b0, b1
/// token g; c[0], c[1] row g and tokens 2i, 2i + 1; c[2], c[3] row g + 8. Each element of c depends
/// on its own row and token alone.
__device__ __forceinline__ void mma(
    float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm volatile(  // all lanes of the warp together: not to be moved under a condition
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// 16 bytes of shared memory.
__device__ __forceinline__ uint4 load_shared(const uint8_t* pointer) {
  return *reinterpret_cast<const uint4*>(pointer);
}

/// Starts a copy of 16 bytes into shared memory past L1; zeros are written where `valid` is false.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
/// The same, nothing at all unless `issue`.
__device__ __forceinline__ void copy_async_if(uint32_t to,
                                              const void* from,
                                              bool valid,
                                              bool issue) {
  const int bytes = valid ? 16 : 0;
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\n"
      "@p cp.async.cg.shared.global [%0], [%1], 16, %2;\n}" ::"r"(to),
      "l"(from), "r"(bytes), "r"(static_cast<int>(issue))
      : "memory");
}
/// The same for what is read once: first to leave L2.
__device__ __forceinline__ void copy_async_once(uint32_t to,
                                                const void* from,
                                                bool valid,
                                                uint64_t policy) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to),
               "l"(from), "r"(bytes), "l"(policy)
               : "memory");
}
__device__ __forceinline__ uint64_t evict_first() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most kPending of this thread's groups of copies are under way.
template <int kPending>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Barrier kId among kThreads threads of the CTA.
template <int kId, int kThreads>
__device__ __forceinline__ void bar_sync() {
  asm volatile("bar.sync %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}

/// Waits for the kernels before this one, if it was launched to overlap with them.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel's CTAs take free places.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Clusters came with sm_90; below, a kernel that uses them is never launched (has_clusters()).
#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}
/// A float at `address` of this CTA's shared memory, as CTA `rank` of the cluster holds it.
__device__ __forceinline__ float load_cluster(uint32_t address, uint32_t rank) {
  uint32_t there;
  float value;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(there) : "memory");
  return value;
}
/// Stores at `address` of this CTA's shared memory, as CTA `rank` of the cluster has it.
__device__ __forceinline__ void store_cluster(uint32_t address, uint32_t rank, float value) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(value) : "memory");
}
#else
__device__ __forceinline__ uint32_t cluster_rank() { return 0; }
__device__ __forceinline__ void cluster_arrive() { __trap(); }
__device__ __forceinline__ void cluster_wait() { __trap(); }
__device__ __forceinline__ void store_cluster(uint32_t, uint32_t, float) { __trap(); }
__device__ __forceinline__ void cluster_sync() { __trap(); }
__device__ __forceinline__ float load_cluster(uint32_t, uint32_t) { return 0.0F; }
#endif

/// What another CTA wrote, and all that it wrote before.
__device__ __forceinline__ int32_t load_acquire(const int32_t* from) {
  int32_t value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

/// Two floats as BF16, nearest even; the first in the low half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
/// Products of two pairs of BF16; subnormal operands count.
__device__ __forceinline__ uint32_t multiply_bf16(uint32_t a, uint32_t b) {
  uint32_t product;
#if __CUDA_ARCH__ >= 900
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
#else  // -0 changes nothing, not even the sign of a zero
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
#endif
  return product;
}

}  // namespace facet::cuda
