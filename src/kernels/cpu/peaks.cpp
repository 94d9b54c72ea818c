// What benchmarks measure the machine with: plain reads, and multiply-adds in registers.

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/peaks.cpp"
#include <hwy/foreach_target.h>  // compiles this file once per target; must precede highway.h
#include <hwy/highway.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace facet::cpu::HWY_NAMESPACE {
namespace {

/// Enough chains to hide a latency of five cycles at two multiply-adds a cycle, few enough to leave
/// two of sixteen registers for the factors.
constexpr int32_t kChains = 12;

uint64_t read(const std::byte* data, int64_t bytes) {
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint8_t, decltype(d)> d8;
  constexpr int64_t kBytes = HWY_LANES(uint8_t);
  constexpr int64_t kVectors = 4;
  static_assert(kReadStep % (kVectors * kBytes) == 0);
  hn::Vec<decltype(d)> sums[kVectors];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kVectors; ++i) sums[i] = hn::Zero(d);
  const auto* p = reinterpret_cast<const uint8_t*>(data);
  for (int64_t at = 0; at < bytes; at += kVectors * kBytes) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kVectors; ++i) {
      sums[i] = hn::Add(sums[i], hn::BitCast(d, hn::LoadU(d8, p + at + i * kBytes)));
    }
  }
  const auto all = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  return hn::GetLane(hn::SumOfLanes(d, all));
}

float burst(int64_t rounds) {
  // Read at run time, so that nothing is computed at compile time; x = x / 2 + 1 stays near 2.
  const volatile float half = 0.5F;
  const volatile float one = 1.0F;
  const V factor = set(half);
  const V addend = set(one);
  V x[kChains];
#pragma GCC unroll 16
  for (int32_t i = 0; i < kChains; ++i) x[i] = set(static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int32_t i = 0; i < kChains; ++i) x[i] = hn::MulAdd(x[i], factor, addend);
  }
  V sum = zero();
#pragma GCC unroll 16
  for (int32_t i = 0; i < kChains; ++i) sum = hn::Add(sum, x[i]);
  return sum_of(sum);
}

}  // namespace

void set_peaks(KernelTable& table) {
  table.read = read;
  table.burst = burst;
  table.burst_flops = int64_t{2} * kChains * kLanes;
}

}  // namespace facet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace facet::cpu {

void set_peak_kernels(Isa isa, KernelTable& table) {
  switch (isa) {
#if HWY_TARGETS & HWY_AVX2
    case Isa::kAvx2:
      return N_AVX2::set_peaks(table);
    case Isa::kAvx512:
      return N_AVX3::set_peaks(table);
#endif
    default:
      return HWY_STATIC_DISPATCH(set_peaks)(table);
  }
}

}  // namespace facet::cpu
#endif
