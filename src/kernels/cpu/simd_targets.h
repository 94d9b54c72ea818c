#pragma once

// What Highway compiles each kernel file for. To be included before any Highway header.
//
// On x86 the lowest instruction set is SSE4 (cpu_isa.cpp refuses older machines), then AVX2 and
// AVX-512; elsewhere it is what the compiler's target has (NEON). Kernels have fixed vector
// lengths, so SVE is left out.
#define HWY_DISABLED_TARGETS                                                              \
  (HWY_SCALAR | HWY_EMU128 | HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | \
   HWY_SVE2_128)
#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_SSE4
#endif
// Only table look-ups and arithmetic are used: no need to ask for AES.
#define HWY_DISABLE_PCLMUL_AES
// Highway's own debug checks call into libhwy, which is not linked.
#define HWY_IS_DEBUG_BUILD 0
