#include "tests/golden/fable.h"

#include "kernels/cpu/cpu_backend.h"
#include "tests/golden/golden.h"
#include "tests/support.h"

namespace facet::test {
Fable::Fable(gemma4::StepLimits limits, int32_t threads)
    : Fable(limits, cpu::make_cpu_backend({.threads = threads})) {}

Fable::Fable(gemma4::StepLimits limits, std::unique_ptr<Backend> on)
    : checkpoint(source_dir() + "/models/fable"),
      backend(std::move(on)),
      model(load_model(checkpoint, *backend, limits)) {}

std::vector<int32_t> fable_ids(uint64_t seed, int32_t count) {
  constexpr int32_t kFirstText = 300;  // behind the control tokens and single bytes
  constexpr int32_t kVocab = 4096;
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int32_t> id(kFirstText, kVocab - 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& each : ids) each = id(random);
  return ids;
}

}  // namespace facet::test
