// attend() is prepare_attention() and then attention(), bit for bit, on each backend.

#include <algorithm>
#include <fmt/core.h>

#include "tests/ops/op_test.h"
#include "tests/ops/paged_step.h"

namespace facet::test {
namespace {

constexpr float kEps = 1e-6F;

/// What a row gets, and the cache after it.
struct Attended {
  Tensor out;
  std::vector<std::byte> k;
  std::vector<std::byte> v;
};

enum class Keys { kOfTheirOwn, kShareAProjection, kOfAnotherLayer };

class AttendTest : public OpTest {
 protected:
  Attended run(const StepSpec& spec, Keys keys, bool fused) {
    PagedStep step(spec);
    step.fill_cache();
    const int32_t d = spec.layout.head_dim;
    const Tensor q_norm = Tensor::random({d}, 1, 0.1F);
    const Tensor k_norm = Tensor::random({d}, 2, 2.0F);
    const RopeTable rope = make_rope_table(d, 1e4, d / 4);
    const Tensor q = step.q();
    const Tensor k = step.k();
    const Tensor v = keys == Keys::kShareAProjection ? Tensor(k.shape()) : step.v();
    AttentionRows rows = {q.view(),        k.view(),
                          v.view(),        keys == Keys::kShareAProjection,
                          q_norm.values(), k_norm.values()};
    if (keys == Keys::kOfAnotherLayer) rows.k = rows.v = {};
    Tensor out(q.shape());
    if (fused) {
      be().attend(out.view(), rows, step.kv(), rope, spec.window, step.batch(), kEps);
    } else {
      be().prepare_attention(rows, step.kv(), rope, step.batch(), kEps);
      be().attention(out.view(), q.view(), step.kv(), spec.window, step.batch());
    }
    return {out,
            {step.k_bytes().begin(), step.k_bytes().end()},
            {step.v_bytes().begin(), step.v_bytes().end()}};
  }

  void check(const StepSpec& spec, Keys keys) {
    SCOPED_TRACE(fmt::format("Q {} K {} D {} {} window {} {} sequences", spec.query_heads,
                             spec.layout.kv_heads, spec.layout.head_dim,
                             to_string(spec.layout.dtype), spec.window, spec.sequences.size()));
    const Attended one = run(spec, keys, true);
    const Attended two = run(spec, keys, false);
    expect_same_bits(one.out, two.out);
    EXPECT_TRUE(one.k == two.k) << "K in the cache";
    EXPECT_TRUE(one.v == two.v) << "V in the cache";
  }
  void check(const StepSpec& spec) {
    check(spec, Keys::kOfTheirOwn);
    check(spec, Keys::kShareAProjection);
    check(spec, Keys::kOfAnotherLayer);
  }
};

// At borders of pages, parts of a device's work and the window, first positions among them.
std::vector<SequenceSpec> one_row_each() {
  return {{0, 1, 1},   {1, 1, 2},   {63, 1, 3},  {64, 1, 4},
          {127, 1, 5}, {255, 1, 6}, {256, 1, 7}, {300, 1, 8}};
}

TEST_P(AttendTest, OneRowOfEachSequence) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const bool scaled = dtype == DType::kF8E4M3;
    const float k_scale = scaled ? 0.013F : 1.0F;
    const float v_scale = scaled ? 0.7F : 1.0F;
    for (const int32_t window : {0, 100}) {
      check({{2, 256, 16, dtype}, 4, window, k_scale, v_scale, one_row_each()});
    }
    check({{1, 512, 64, dtype}, 8, 0, k_scale, v_scale, one_row_each()});
    check({{2, 32, 4, dtype}, 4, 17, k_scale, v_scale, one_row_each()});
  }
}

TEST_P(AttendTest, PromptsBesideSingleRows) {
  const std::vector<SequenceSpec> mixed = {
      {0, 5, 1}, {70, 1, 2}, {0, 1, 3}, {60, 9, 4}, {200, 1, 5}};
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3}) {
    check({{2, 256, 64, dtype}, 4, 100, 1.0F, 1.0F, mixed});
    check({{2, 512, 16, dtype}, 16, 0, 1.0F, 1.0F, mixed});
  }
}

TEST_P(AttendTest, LongContexts) {
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3}) {
    check({{8, 256, 64, dtype}, 16, 1024, 1.0F, 1.0F, {{1500, 1, 1}}}, Keys::kOfTheirOwn);
    check({{2, 512, 64, dtype}, 16, 0, 1.0F, 1.0F, {{3000, 1, 1}, {700, 1, 2}}},
          Keys::kShareAProjection);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttendTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
