// The fused op in front of attention against the primitives that define it, on each backend.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/core.h>

#include "quant/float_formats.h"
#include "tests/ops/op_test.h"
#include "tests/ops/paged_step.h"

namespace facet::test {
namespace {

constexpr float kEps = 1e-6F;

/// q and the cache after the op.
struct Prepared {
  Tensor q;
  std::vector<std::byte> k;
  std::vector<std::byte> v;
};

class PrepareAttentionTest : public OpTest {
 protected:
  /// `op` is the op, or its definition.
  template <typename Op>
  Prepared run(const StepSpec& spec, bool v_is_k, const Op& op) {
    PagedStep step(spec);
    const int32_t d = spec.layout.head_dim;
    const Tensor q_norm = Tensor::random({d}, 1, 2.0F);
    const Tensor k_norm = Tensor::random({d}, 2, 2.0F);
    const RopeTable rope = make_rope_table(d, 1e4, d / 4);
    Tensor q = step.q();
    Tensor k = step.k();
    Tensor v = v_is_k ? Tensor(k.shape()) : step.v();
    const AttentionRows rows = {q.view(), k.view(),        v.view(),
                                v_is_k,   q_norm.values(), k_norm.values()};
    op(rows, step.kv(), rope, step.batch());
    return {q,
            {step.k_bytes().begin(), step.k_bytes().end()},
            {step.v_bytes().begin(), step.v_bytes().end()}};
  }

  static float value_at(const std::vector<std::byte>& bytes, DType dtype, size_t i) {
    if (dtype == DType::kF32) {
      float value = 0;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      return value;
    }
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    return bf16_to_float(bits);
  }

  /// What is not written stays NaN on both sides.
  static void expect_same_cache(const std::vector<std::byte>& found,
                                const std::vector<std::byte>& wanted,
                                DType dtype) {
    // Values next to a midpoint of BF16 may fall to either side.
    const float step = dtype == DType::kF32 ? 4e-6F : 0x1p-7F;
    const size_t count = found.size() * 8 / static_cast<size_t>(bits_of(dtype));
    for (size_t i = 0; i < count; ++i) {
      const float a = value_at(found, dtype, i);
      const float b = value_at(wanted, dtype, i);
      ASSERT_EQ(std::isnan(a), std::isnan(b)) << i;
      if (!std::isnan(b)) ASSERT_NEAR(a, b, step * (1.0F + std::abs(b))) << i;
    }
  }

  void check(const StepSpec& spec, bool v_is_k) {
    SCOPED_TRACE(fmt::format("D {} K {} {}", spec.layout.head_dim, spec.layout.kv_heads,
                             to_string(spec.layout.dtype)));
    const Prepared found =
        run(spec, v_is_k, [&](const auto& rows, const KvView& kv, const auto& rope, const auto& b) {
          be().prepare_attention(rows, kv, rope, b, kEps);
        });
    const Prepared wanted =
        run(spec, v_is_k, [&](const auto& rows, const KvView& kv, const auto& rope, const auto& b) {
          be().Backend::prepare_attention(rows, kv, rope, b, kEps);
        });
    std::vector<Expected> q;
    for (const float value : wanted.q.values())
      q.push_back({static_cast<double>(value), 4.0 + std::abs(static_cast<double>(value))});
    expect_close(found.q, q, kRounding);
    expect_same_cache(found.k, wanted.k, spec.layout.dtype);
    expect_same_cache(found.v, wanted.v, spec.layout.dtype);
  }
};

TEST_P(PrepareAttentionTest, IsWhatItsDefinitionSays) {
  const std::vector<SequenceSpec> sequences = {{0, 1, 1}, {9, 13, 6}, {100, 1, 9}, {4000, 2, 10}};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int32_t head_dim : {16, 256, 512}) {
      check({{2, head_dim, 16, dtype}, 4, 0, 1, 1, sequences}, false);
      check({{1, head_dim, 64, dtype}, 8, 0, 1, 1, sequences}, true);
    }
  }
}

// A layer that reads another layer's cache writes none.
TEST_P(PrepareAttentionTest, WithoutKeysNothingIsStored) {
  const StepSpec spec = {{1, 256, 16, DType::kF32}, 2, 0, 1, 1, {{5, 3, 1}}};
  const Prepared found =
      run(spec, false, [&](AttentionRows rows, const KvView& kv, const auto& rope, const auto& b) {
        rows.k = {};
        rows.v = {};
        be().prepare_attention(rows, kv, rope, b, kEps);
      });
  PagedStep untouched(spec);
  EXPECT_TRUE(std::ranges::equal(found.k, untouched.k_bytes()));
  EXPECT_TRUE(std::ranges::equal(found.v, untouched.v_bytes()));
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         PrepareAttentionTest,
                         testing::ValuesIn(backends()),
                         backend_name);

}  // namespace
}  // namespace facet::test
