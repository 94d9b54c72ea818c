#include "kernels/cpu/cpu_isa.h"

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace facet::cpu {
namespace {

constexpr bool all_set(uint64_t value, uint64_t mask) { return (value & mask) == mask; }

// CPUID leaf 1 ECX.
constexpr uint32_t kSsse3 = 1u << 9;
constexpr uint32_t kFma = 1u << 12;
constexpr uint32_t kSse41 = 1u << 19;
constexpr uint32_t kSse42 = 1u << 20;
constexpr uint32_t kAvx = 1u << 28;
constexpr uint32_t kF16c = 1u << 29;
// CPUID leaf 7 EBX.
constexpr uint32_t kBmi1 = 1u << 3;
constexpr uint32_t kAvx2 = 1u << 5;
constexpr uint32_t kBmi2 = 1u << 8;
constexpr uint32_t kAvx512f = 1u << 16;
constexpr uint32_t kAvx512dq = 1u << 17;
constexpr uint32_t kAvx512bw = 1u << 30;
constexpr uint32_t kAvx512vl = 1u << 31;
// XCR0: which registers the system saves.
constexpr uint64_t kYmmState = 0x6;   // XMM, upper YMM
constexpr uint64_t kZmmState = 0xe6;  // and mask registers, upper ZMM, ZMM 16 to 31

#if defined(__x86_64__)
X86Features read_features() {
  constexpr uint32_t kOsxsave = 1u << 27;
  X86Features result;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return result;
  result.leaf1_ecx = ecx;
  if ((ecx & kOsxsave) != 0) {
    uint32_t low = 0;
    uint32_t high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    result.xcr0 = (uint64_t{high} << 32) | low;
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) result.leaf7_ebx = ebx;
  return result;
}
#endif

}  // namespace

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "AVX2";
    case Isa::kAvx512:
      return "AVX-512";
    case Isa::kBaseline:
      break;
  }
#if defined(__x86_64__)
  return "SSE4";
#else
  return "NEON";
#endif
}

std::optional<Isa> isa_from_string(std::string_view name) {
  if (name == "baseline") return Isa::kBaseline;
  if (name == "avx2") return Isa::kAvx2;
  if (name == "avx512") return Isa::kAvx512;
  return std::nullopt;
}

std::vector<Isa> isas_of(const X86Features& features) {
  std::vector<Isa> result;
  if (!all_set(features.leaf1_ecx, kSsse3 | kSse41 | kSse42)) return result;
  result.push_back(Isa::kBaseline);
  if (!all_set(features.leaf1_ecx, kFma | kAvx | kF16c) ||
      !all_set(features.leaf7_ebx, kBmi1 | kAvx2 | kBmi2) || !all_set(features.xcr0, kYmmState)) {
    return result;
  }
  result.push_back(Isa::kAvx2);
  if (all_set(features.leaf7_ebx, kAvx512f | kAvx512dq | kAvx512bw | kAvx512vl) &&
      all_set(features.xcr0, kZmmState)) {
    result.push_back(Isa::kAvx512);
  }
  return result;
}

std::vector<Isa> supported_isas() {
#if defined(__x86_64__)
  return isas_of(read_features());
#else
  return {Isa::kBaseline};
#endif
}

std::string list_of(const std::vector<Isa>& isas) {
  if (isas.empty()) return "none";
  std::string result;
  for (const Isa isa : isas) {
    if (!result.empty()) result += ", ";
    result += to_string(isa);
  }
  return result;
}

Isa best_isa() {
  const std::vector<Isa> isas = supported_isas();
  if (isas.empty()) {
    throw Error(ErrorCode::kDevice,
                "the CPU backend needs a processor with SSE4.2; this one has it not");
  }
  return isas.back();
}

}  // namespace facet::cpu
