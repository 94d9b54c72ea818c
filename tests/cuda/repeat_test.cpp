// A step on the GPU gives the same bits however often it is done, as single launches and as a
// graph. FACET_TEST_MODEL names a checkpoint (Fable unless given), FACET_TEST_REPEATS how often
// (1000 unless given).

#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/golden/golden.h"
#include "tests/support.h"

namespace facet {
namespace {

constexpr int32_t kPage = 64;
constexpr int32_t kPrompt = 100;

int32_t repeats() {
  const char* chosen = std::getenv("FACET_TEST_REPEATS");
  return chosen != nullptr ? std::atoi(chosen) : 1000;
}

std::string folder() {
  const char* chosen = std::getenv("FACET_TEST_MODEL");
  return chosen != nullptr ? chosen : test::source_dir() + "/models/fable";
}

/// Bytes of logits.
std::vector<std::byte> bytes_of(TensorView logits) {
  const auto* data = static_cast<const std::byte*>(logits.data());
  return {data, data + logits.bytes()};
}

bool equal(TensorView logits, const std::vector<std::byte>& wanted) {
  return logits.bytes() == std::ssize(wanted) &&
         std::memcmp(logits.data(), wanted.data(), wanted.size()) == 0;
}

/// A model on the GPU, asked for the same steps again and again.
class Repeated {
 public:
  explicit Repeated(bool graphs)
      : checkpoint_(folder()),
        backend_(cuda::make_cuda_backend({.graphs = graphs})),
        loaded_(checkpoint_, *backend_, DType::kBF16, kPage) {}

  /// The logits of a prompt's last tokens; how many runs gave others than the first.
  std::vector<std::byte> prompt(int32_t count) {
    const std::vector<int32_t> ids = ids_of(1, kPrompt);
    std::vector<std::byte> first;
    int32_t wrong = 0;
    for (int32_t i = 0; i < count; ++i) {
      const CacheSlot slot = loaded_.cache.open();
      const TensorView logits = step({{slot, ids, LogitRows::kLast}});
      if (first.empty()) first = bytes_of(logits);
      if (!equal(logits, first)) ++wrong;
      loaded_.cache.close(slot);
    }
    EXPECT_EQ(wrong, 0) << "of " << count << " prompts";
    return first;
  }

  /// The same of one more token for each of `sequences`.
  std::vector<std::byte> decode(int32_t sequences, int32_t count) {
    std::vector<CacheSlot> slots;
    for (int32_t s = 0; s < sequences; ++s) {
      slots.push_back(loaded_.cache.open());
      step({{slots.back(), ids_of(static_cast<uint64_t>(s) + 1, kPrompt - s), LogitRows::kNone}});
    }
    const std::vector<int32_t> ids = ids_of(100, sequences);
    std::vector<SequenceStep> steps;
    for (size_t s = 0; s < slots.size(); ++s)
      steps.push_back({slots[s], std::span(ids).subspan(s, 1), LogitRows::kLast});
    std::vector<std::byte> first;
    int32_t wrong = 0;
    for (int32_t i = 0; i < count; ++i) {
      const TensorView logits = step(steps);
      if (first.empty()) first = bytes_of(logits);
      if (!equal(logits, first)) ++wrong;
      for (const CacheSlot slot : slots) loaded_.cache.rewind(slot, loaded_.cache.length(slot) - 1);
    }
    EXPECT_EQ(wrong, 0) << "of " << count << " steps of " << sequences << " rows";
    for (const CacheSlot slot : slots) loaded_.cache.close(slot);
    return first;
  }

 private:
  TensorView step(const std::vector<SequenceStep>& steps) {
    for (const SequenceStep& each : steps)
      EXPECT_TRUE(loaded_.cache.reserve(each.slot, static_cast<int32_t>(each.ids.size())));
    return loaded_.stepper.run(steps);
  }

  std::vector<int32_t> ids_of(uint64_t seed, int32_t count) const {
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<int32_t> id(0, loaded_.model.config().vocab_size - 1);
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& each : ids) each = id(random);
    return ids;
  }

  Checkpoint checkpoint_;
  std::unique_ptr<Backend> backend_;
  test::LoadedModel loaded_;
};

TEST(CudaRepeats, BitsAreThoseOfTheFirstTime) {
  if (const auto fault = cuda::unavailable()) GTEST_SKIP() << *fault;
  const int32_t count = repeats();
  std::vector<std::vector<std::byte>> results;
  for (const bool graphs : {false, true}) {
    Repeated repeated(graphs);
    results.push_back(repeated.prompt(graphs ? 1 : count));  // prompts are no graphs
    results.push_back(repeated.decode(1, count));
    results.push_back(repeated.decode(8, count));
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(results[i], results[i + 3]) << "graphs change bits";
}

}  // namespace
}  // namespace facet
