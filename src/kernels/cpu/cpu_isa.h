#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace facet::cpu {

/// The instruction sets that kernels are compiled for, in ascending order.
enum class Isa : uint8_t {
  kBaseline,  ///< SSE4.2 on x86, NEON on ARM
  kAvx2,      ///< with FMA, F16C, BMI1, BMI2
  kAvx512,    ///< F, BW, DQ, VL
};

/// "SSE4" or "NEON", "AVX2", "AVX-512".
std::string_view to_string(Isa isa);
/// As options name them: "baseline", "avx2", "avx512"; nullopt for anything else.
std::optional<Isa> isa_from_string(std::string_view name);

/// The instruction sets that this processor and operating system can run, ascending. Empty on an
/// x86 without SSE4.2.
std::vector<Isa> supported_isas();
/// "SSE4, AVX2", or "none".
std::string list_of(const std::vector<Isa>& isas);
/// The last of supported_isas(). Throws Error{kDevice} if there is none.
Isa best_isa();

/// What x86 says about itself: CPUID leaf 1 ECX and leaf 7 EBX, and the extended control register
/// XCR0 (0 if the system does not save AVX state).
struct X86Features {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0;
  uint64_t xcr0 = 0;
};
std::vector<Isa> isas_of(const X86Features& features);

}  // namespace facet::cpu
