// All layers of one token in one launch give the bits of the launches of each op, at every length
// of a context that is dealt out differently. FACET_TEST_MODEL names a checkpoint whose steps are
// one launch: mixtures of experts in NVFP4 at true dimensions (facet synth makes one).

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/golden/golden.h"

namespace facet {
namespace {

constexpr int32_t kPage = 64;
constexpr int32_t kRows = 512;

/// A model on the GPU with one sequence.
class Sequence {
 public:
  Sequence(const Checkpoint& checkpoint, StepWish steps, int32_t longest)
      : backend_(cuda::make_cuda_backend({.wishes = {.steps = steps}})),
        model_(test::load_model(checkpoint, *backend_, {kRows, 1})),
        cache_(
            model_.kv_groups(kPage, DType::kBF16),
            std::vector<int32_t>(model_.kv_groups(kPage, DType::kBF16).size(), longest / kPage + 2),
            backend_->allocator()),
        stepper_(model_, cache_),
        slot_(cache_.open()) {}

  int32_t vocab_size() const { return model_.vocab_size(); }
  int32_t length() const { return cache_.length(slot_); }

  /// The logits of the last of `ids`.
  std::vector<float> feed(std::span<const int32_t> ids) {
    std::vector<float> logits;
    while (!ids.empty()) {
      const auto now = ids.first(std::min(ids.size(), size_t{kRows}));
      ids = ids.subspan(now.size());
      EXPECT_TRUE(cache_.reserve(slot_, static_cast<int32_t>(now.size())));
      const std::vector<SequenceStep> step = {{slot_, now, LogitRows::kLast}};
      const TensorView out = stepper_.run(step);
      const std::span<const float> values = out.as<float>();
      logits.assign(values.begin(), values.end());
    }
    return logits;
  }
  void rewind(int32_t tokens) { cache_.rewind(slot_, length() - tokens); }

  /// The kernels of a step with one more token.
  std::vector<std::string> kernels(int32_t id) {
    std::vector<std::string> names;
    const auto profile = backend_->profile([&] {
      feed(std::vector<int32_t>{id});
      rewind(1);
    });
    for (const KernelTime& time : profile.value_or(KernelProfile{}).kernels)
      names.push_back(time.kernel);
    return names;
  }

 private:
  std::unique_ptr<Backend> backend_;
  gemma4::Gemma4Model model_;
  KvCache cache_;
  Stepper stepper_;
  CacheSlot slot_;
};

bool holds(const std::vector<std::string>& names, const char* name) {
  return std::ranges::find(names, name) != names.end();
}

TEST(CudaOneToken, BitsAreThoseOfSingleOps) {
  if (const auto fault = cuda::unavailable()) GTEST_SKIP() << *fault;
  const char* folder = std::getenv("FACET_TEST_MODEL");
  if (folder == nullptr) GTEST_SKIP() << "FACET_TEST_MODEL names no model of true dimensions";
  const std::vector<int32_t> lengths = {
      0,    1,    5,    62,   63,   64,   100,  127,  1000, 1022, 1023,  1024,  1025,  1086,
      1087, 1088, 1151, 1600, 4223, 4224, 9598, 9599, 9600, 9601, 16384, 22000, 28000, 33500};
  const Checkpoint checkpoint(folder);
  Sequence whole(checkpoint, StepWish::kAuto, lengths.back() + 64);
  Sequence apart(checkpoint, StepWish::kApart, lengths.back() + 64);
  std::mt19937_64 random(1);
  std::uniform_int_distribution<int32_t> id(0, whole.vocab_size() - 1);
  const auto ids = [&](int32_t count) {
    std::vector<int32_t> some(static_cast<size_t>(count));
    for (int32_t& each : some) each = id(random);
    return some;
  };
  for (const int32_t length : lengths) {
    const std::vector<int32_t> prompt = ids(length - whole.length());
    whole.feed(prompt);
    apart.feed(prompt);
    const std::vector<int32_t> token = ids(1);
    for (int32_t turn = 0; turn < 3; ++turn) {  // plainly, recorded, repeated
      const std::vector<float> a = whole.feed(token);
      const std::vector<float> b = apart.feed(token);
      size_t different = 0;
      float most = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        different += std::memcmp(&a[i], &b[i], sizeof(float)) != 0 ? 1 : 0;
        most = std::max(most, std::abs(a[i] - b[i]));
      }
      EXPECT_EQ(different, 0) << "of " << a.size() << " logits at position " << length << ", turn "
                              << turn << ", by " << most;
      if (turn < 2) {
        whole.rewind(1);
        apart.rewind(1);
      }
    }
  }
  EXPECT_TRUE(holds(whole.kernels(7), "all layers of one token"));
  EXPECT_FALSE(holds(apart.kernels(7), "all layers of one token"));
}

}  // namespace
}  // namespace facet
