// All layers of a step's tokens and their logits in one launch, one token of each of its sequences,
// give the bits of the launches of each op, at every length of a context that is dealt out
// differently and whatever else is in the step. FACET_TEST_MODEL names a checkpoint whose steps are
// one launch: mixtures of experts in NVFP4 at true dimensions (facet synth makes one).

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <gtest/gtest.h>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/golden/golden.h"

namespace facet {
namespace {

constexpr int32_t kPage = 64;
constexpr int32_t kChunk = 512;
constexpr const char* kOneLaunch = "all layers of a step, logits";
constexpr const char* kLayersAlone = "all layers of a step";

/// The sequences of a step, in the order of their rows.
using Members = std::vector<size_t>;

/// A model on the GPU with some sequences of up to `longest` positions.
class Sequences {
 public:
  Sequences(const Checkpoint& checkpoint, StepWish steps, int32_t count, int32_t longest)
      : backend_(cuda::make_cuda_backend({.wishes = {.steps = steps}})),
        model_(test::load_model(checkpoint, *backend_, {kChunk, count})),
        cache_(model_.kv_groups(kPage, DType::kBF16),
               pages(model_.kv_groups(kPage, DType::kBF16), count, longest),
               backend_->allocator()),
        stepper_(model_, cache_) {
    for (int32_t s = 0; s < count; ++s) slots_.push_back(cache_.open());
  }

  int32_t vocab_size() const { return model_.vocab_size(); }
  int32_t length(size_t sequence) const { return cache_.length(slots_[sequence]); }

  /// Begins a sequence anew.
  void restart(size_t sequence) {
    cache_.close(slots_[sequence]);
    slots_[sequence] = cache_.open();
  }

  /// A prompt; the sequence can be rewound to its end from then on.
  void feed(size_t sequence, std::span<const int32_t> ids) {
    const CacheSlot slot = slots_[sequence];
    while (!ids.empty()) {
      const auto now = ids.first(std::min(ids.size(), size_t{kChunk}));
      ids = ids.subspan(now.size());
      EXPECT_TRUE(cache_.reserve(slot, static_cast<int32_t>(now.size())));
      // Without logits, so that a chunk of one row is no step whose graph another repeats.
      const std::vector<SequenceStep> step = {{slot, now, LogitRows::kNone}};
      stepper_.run(step);
    }
    cache_.keep(slot, cache_.length(slot));
  }

  /// One more token of each; the logits of the first `wanted` rows, row after row.
  std::vector<float> step(const Members& members, std::span<const int32_t> ids, size_t wanted) {
    std::vector<SequenceStep> steps;
    for (size_t r = 0; r < members.size(); ++r) {
      const CacheSlot slot = slots_[members[r]];
      EXPECT_TRUE(cache_.reserve(slot, 1));
      steps.push_back({slot, ids.subspan(r, 1), r < wanted ? LogitRows::kLast : LogitRows::kNone});
    }
    const TensorView out = stepper_.run(steps);
    if (wanted == 0) return {};
    const std::span<const float> values = out.as<float>();
    return {values.begin(), values.end()};
  }
  void rewind(const Members& members, int32_t tokens) {
    for (const size_t s : members) cache_.rewind(slots_[s], length(s) - tokens);
  }

  /// Whether such a step, whose like has been run, launches the kernel.
  bool launches(const Members& members, size_t wanted, const char* kernel) {
    const auto profile = backend_->profile([&] {
      step(members, std::vector<int32_t>(members.size(), 7), wanted);
      rewind(members, 1);
    });
    const KernelProfile found = profile.value_or(KernelProfile{});
    return std::ranges::any_of(found.kernels,
                               [&](const KernelTime& time) { return time.kernel == kernel; });
  }

 private:
  static std::vector<int32_t> pages(const std::vector<KvGroupSpec>& groups,
                                    int32_t count,
                                    int32_t longest) {
    std::vector<int32_t> pages;
    for (const KvGroupSpec& group : groups) {
      const int32_t kept = KvCache::pages_kept(group);
      pages.push_back(count * (KvCache::pages_for(group, longest, kChunk) + kept));
    }
    return pages;
  }

  std::unique_ptr<Backend> backend_;
  gemma4::Gemma4Model model_;
  KvCache cache_;
  Stepper stepper_;
  std::vector<CacheSlot> slots_;
};

/// Sequences of which steps are one launch, and the same of which each op is a launch.
class Compared {
 public:
  Compared(const Checkpoint& checkpoint, int32_t count, int32_t longest)
      : whole_(checkpoint, StepWish::kWhole, count, longest + kPage),
        apart_(checkpoint, StepWish::kApart, count, longest + kPage),
        id_(0, whole_.vocab_size() - 1) {}

  void restart(size_t sequence) {
    whole_.restart(sequence);
    apart_.restart(sequence);
  }
  /// Random tokens, up to a length.
  void fill(size_t sequence, int32_t length) {
    const std::vector<int32_t> prompt = ids(length - whole_.length(sequence));
    whole_.feed(sequence, prompt);
    apart_.feed(sequence, prompt);
  }
  void rewind(const Members& members, int32_t tokens) {
    whole_.rewind(members, tokens);
    apart_.rewind(members, tokens);
  }

  /// A step with random tokens gives the same bits either way.
  void step(const Members& members, int32_t turn) { step_for(members, members.size(), turn); }
  /// The same where the first `wanted` rows alone want logits.
  void step_for(const Members& members, size_t wanted, int32_t turn) {
    const std::vector<int32_t> tokens = ids(std::ssize(members));
    const std::string where = step_text(members) + ", logits of " + std::to_string(wanted) +
                              ", turn " + std::to_string(turn);
    const std::vector<float> a = whole_.step(members, tokens, wanted);
    const std::vector<float> b = apart_.step(members, tokens, wanted);
    ASSERT_EQ(a.size(), wanted * static_cast<size_t>(whole_.vocab_size())) << where;
    ASSERT_EQ(a.size(), b.size()) << where;
    for (size_t r = 0; r < wanted; ++r)
      expect_same(row(a, r), row(b, r), "row " + std::to_string(r) + " of " + where);
  }

  /// Each row of a step in one launch has the bits of a step of its own in one launch.
  void step_alone(const Members& members) {
    const std::vector<int32_t> tokens = ids(std::ssize(members));
    const std::string where = step_text(members) + ", against its own step";
    const std::vector<float> together = whole_.step(members, tokens, members.size());
    whole_.rewind(members, 1);
    ASSERT_EQ(together.size(), members.size() * static_cast<size_t>(whole_.vocab_size()));
    for (size_t r = 0; r < members.size(); ++r) {
      const Members alone = {members[r]};
      const std::vector<float> own = whole_.step(alone, std::span(tokens).subspan(r, 1), 1);
      whole_.rewind(alone, 1);
      ASSERT_EQ(own.size(), static_cast<size_t>(whole_.vocab_size())) << where;
      expect_same(row(together, r), own, "row " + std::to_string(r) + " of " + where);
    }
  }

  void expect_one_launch(const Members& members) {
    EXPECT_TRUE(whole_.launches(members, members.size(), kOneLaunch)) << step_text(members);
  }
  void expect_layers_alone(const Members& members, size_t wanted) {
    EXPECT_TRUE(whole_.launches(members, wanted, kLayersAlone)) << step_text(members);
  }
  void expect_single_ops(const Members& members) {
    EXPECT_FALSE(apart_.launches(members, members.size(), kOneLaunch)) << step_text(members);
  }

 private:
  std::vector<int32_t> ids(int64_t count) {
    std::vector<int32_t> some(static_cast<size_t>(count));
    for (int32_t& each : some) each = id_(random_);
    return some;
  }

  std::span<const float> row(const std::vector<float>& logits, size_t index) const {
    const auto width = static_cast<size_t>(whole_.vocab_size());
    return std::span(logits).subspan(index * width, width);
  }

  /// "a step at positions { 5, 1023 }".
  std::string step_text(const Members& members) const {
    std::vector<int32_t> positions;
    for (const size_t s : members) positions.push_back(whole_.length(s));
    return "a step at positions " + testing::PrintToString(positions);
  }

  static void expect_same(std::span<const float> a,
                          std::span<const float> b,
                          const std::string& where) {
    size_t different = 0;
    float most = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      different += std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]) ? 1 : 0;
      most = std::max(most, std::abs(a[i] - b[i]));
    }
    EXPECT_EQ(different, 0) << "of " << a.size() << " logits, " << where << ", by " << most;
  }

  Sequences whole_;
  Sequences apart_;
  std::mt19937_64 random_{1};
  std::uniform_int_distribution<int32_t> id_;
};

class CudaFewTokens : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto fault = cuda::unavailable()) GTEST_SKIP() << *fault;
    folder_ = std::getenv("FACET_TEST_MODEL");
    if (folder_ == nullptr) GTEST_SKIP() << "FACET_TEST_MODEL names no model of true dimensions";
  }

  const char* folder_ = nullptr;
};

TEST_F(CudaFewTokens, BitsAreThoseOfSingleOps) {
  const std::vector<int32_t> lengths = {
      0,    1,    5,    62,   63,   64,   100,  127,  1000, 1022, 1023,  1024,  1025,  1086,
      1087, 1088, 1151, 1600, 4223, 4224, 9598, 9599, 9600, 9601, 16384, 22000, 28000, 33500};
  const Checkpoint checkpoint(folder_);
  Compared compared(checkpoint, 1, lengths.back());
  for (const int32_t length : lengths) {
    compared.fill(0, length);
    for (int32_t turn = 0; turn < 3; ++turn) {  // plainly, recorded, repeated
      if (turn > 0) compared.rewind({0}, 1);
      compared.step({0}, turn);
    }
  }
  compared.expect_one_launch({0});
  compared.expect_single_ops({0});
}

TEST_F(CudaFewTokens, SequencesOfAStepDoNotDependOnEachOther) {
  constexpr size_t kCount = 8;
  // Short beside long, with the window's edge between them, but for the second: it is all edge.
  const std::vector<std::vector<int32_t>> rounds = {
      {16384, 1, 1023, 62, 4224, 1086, 100, 1600},
      {1024, 1151, 1022, 1087, 1023, 1088, 1025, 1086},
      {5, 9600, 1025, 64, 22000, 1000, 1087, 63},
      {9599, 0, 4223, 1024, 127, 1088, 9601, 1022},
  };
  Members all(kCount);
  std::iota(all.begin(), all.end(), size_t{0});
  const std::vector<Members> batches = {{0, 1},
                                        {4, 3},
                                        {1, 6, 2},
                                        {5, 4, 3},
                                        {7, 2, 0, 5},
                                        {3, 1, 6, 4},
                                        {6, 3, 1, 4, 7},
                                        {0, 5, 2, 1, 7},
                                        {2, 7, 4, 0, 3, 6},
                                        {7, 5, 3, 1, 6, 4, 2},
                                        {1, 0, 3, 2, 5, 7, 6},
                                        all};
  int32_t longest = 0;
  for (const auto& lengths : rounds) longest = std::max(longest, std::ranges::max(lengths));
  const Checkpoint checkpoint(folder_);
  Compared compared(checkpoint, kCount, longest);
  for (const auto& lengths : rounds) {
    for (const size_t s : all) {
      compared.restart(s);
      compared.fill(s, lengths[s]);
    }
    for (const Members& members : batches) {
      // Plainly, recorded, repeated, unless an earlier batch of so many rows has been recorded: its
      // graph then is repeated for other sequences.
      for (int32_t turn = 0; turn < 3; ++turn) {
        if (turn > 0) compared.rewind(members, 1);
        compared.step(members, turn);
      }
      compared.step(members, 3);  // reads what the step before it left in the cache
      compared.rewind(members, 2);
      compared.expect_one_launch(members);
    }
    compared.step_alone(all);
  }
  compared.expect_single_ops(all);
}

TEST_F(CudaFewTokens, SomeRowsMayWantNoLogits) {
  const std::vector<int32_t> lengths = {1024, 62, 1600, 4223, 5};
  const Checkpoint checkpoint(folder_);
  Compared compared(checkpoint, static_cast<int32_t>(lengths.size()), std::ranges::max(lengths));
  for (size_t s = 0; s < lengths.size(); ++s) compared.fill(s, lengths[s]);
  const std::vector<Members> batches = {{0}, {1, 0}, {2, 0, 1}, {4, 3, 2, 1, 0}};
  for (const Members& members : batches) {
    for (size_t wanted = 0; wanted < members.size(); ++wanted) {
      for (int32_t turn = 0; turn < 3; ++turn) {
        if (turn > 0) compared.rewind(members, 1);
        compared.step_for(members, wanted, turn);
      }
      compared.step(members, 3);  // reads what the step before it left in the cache
      compared.rewind(members, 2);
      compared.expect_layers_alone(members, wanted);
    }
  }
}

}  // namespace
}  // namespace facet
