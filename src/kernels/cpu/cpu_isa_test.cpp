#include "kernels/cpu/cpu_isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/cpu/cpu_backend.h"

namespace facet::cpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint32_t kSse4Ecx = (1u << 9) | (1u << 19) | (1u << 20);
constexpr uint32_t kAvx2Ecx = kSse4Ecx | (1u << 12) | (1u << 28) | (1u << 29);
constexpr uint32_t kAvx2Ebx = (1u << 3) | (1u << 5) | (1u << 8);
constexpr uint32_t kAvx512Ebx = kAvx2Ebx | (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);

TEST(CpuIsa, ReadsFeatures) {
  EXPECT_THAT(isas_of({}), IsEmpty());
  EXPECT_THAT(isas_of({kSse4Ecx, 0, 0}), ElementsAre(Isa::kBaseline));
  EXPECT_THAT(isas_of({kAvx2Ecx, kAvx2Ebx, 0x7}), ElementsAre(Isa::kBaseline, Isa::kAvx2));
  EXPECT_THAT(isas_of({kAvx2Ecx, kAvx512Ebx, 0xe7}),
              ElementsAre(Isa::kBaseline, Isa::kAvx2, Isa::kAvx512));
}

TEST(CpuIsa, NeedsTheSystemToSaveTheRegisters) {
  EXPECT_THAT(isas_of({kAvx2Ecx, kAvx512Ebx, 0x3}), ElementsAre(Isa::kBaseline));
  EXPECT_THAT(isas_of({kAvx2Ecx, kAvx512Ebx, 0x7}), ElementsAre(Isa::kBaseline, Isa::kAvx2));
  EXPECT_THAT(isas_of({kAvx2Ecx, kAvx512Ebx, 0x67}), ElementsAre(Isa::kBaseline, Isa::kAvx2));
}

TEST(CpuIsa, NeedsEveryFeature) {
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const uint32_t mask = 1u << bit;
    if ((kSse4Ecx & mask) != 0) {
      EXPECT_THAT(isas_of({kAvx2Ecx & ~mask, kAvx512Ebx, 0xe7}), IsEmpty()) << bit;
    } else if ((kAvx2Ecx & mask) != 0) {
      EXPECT_THAT(isas_of({kAvx2Ecx & ~mask, kAvx512Ebx, 0xe7}), ElementsAre(Isa::kBaseline))
          << bit;
    }
    if ((kAvx2Ebx & mask) != 0) {
      EXPECT_THAT(isas_of({kAvx2Ecx, kAvx512Ebx & ~mask, 0xe7}), ElementsAre(Isa::kBaseline))
          << bit;
    } else if ((kAvx512Ebx & mask) != 0) {
      EXPECT_THAT(isas_of({kAvx2Ecx, kAvx512Ebx & ~mask, 0xe7}),
                  ElementsAre(Isa::kBaseline, Isa::kAvx2))
          << bit;
    }
  }
}

TEST(CpuIsa, NamesAndLists) {
  EXPECT_EQ(isa_from_string("baseline"), Isa::kBaseline);
  EXPECT_EQ(isa_from_string("avx2"), Isa::kAvx2);
  EXPECT_EQ(isa_from_string("avx512"), Isa::kAvx512);
  EXPECT_EQ(isa_from_string("AVX2"), std::nullopt);
  EXPECT_EQ(isa_from_string(""), std::nullopt);
  EXPECT_EQ(list_of({}), "none");
  EXPECT_THAT(list_of({Isa::kBaseline, Isa::kAvx2}), HasSubstr(", AVX2"));
}

TEST(CpuIsa, BackendSaysWhatItUses) {
  for (const Isa isa : supported_isas()) {
    const auto one = make_cpu_backend({isa, 1});
    EXPECT_EQ(one->describe(), "cpu (" + std::string(to_string(isa)) + ", 1 thread)");
    const auto three = make_cpu_backend({isa, 3});
    EXPECT_EQ(three->describe(), "cpu (" + std::string(to_string(isa)) + ", 3 threads)");
  }
  EXPECT_THAT(std::string(make_cpu_backend({})->describe()), HasSubstr(to_string(best_isa())));
}

TEST(CpuIsa, RefusesWhatTheMachineLacks) {
  const std::vector<Isa> isas = supported_isas();
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (std::find(isas.begin(), isas.end(), isa) != isas.end()) continue;
    try {
      make_cpu_backend({isa, 1});
      FAIL() << to_string(isa) << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_THAT(error.message(), HasSubstr(to_string(isa)));
      EXPECT_THAT(error.message(), HasSubstr(list_of(isas)));
    }
  }
}

}  // namespace
}  // namespace facet::cpu
