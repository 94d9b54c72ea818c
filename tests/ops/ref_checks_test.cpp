// The reference backend refuses operands that do not fit together.

#include "kernels/ref/ref_backend.h"
#include "tests/ops/moe_step.h"
#include "tests/ops/paged_step.h"

namespace facet::test {
namespace {

class RefChecksDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  std::unique_ptr<Backend> ref_ = ref::make_ref_backend();
};

TEST_F(RefChecksDeathTest, Shapes) {
  const StoredMatrix w(kF32Kind, 3, 4, 1);
  const Tensor x({2, 4});
  const Tensor wide({2, 5});
  const Tensor out({2, 3});
  EXPECT_DEATH(ref_->linear(out.view(), wide.view(), w.matrix()),
               "x is \\[2, 5\\], not \\[2, 4\\]");
  EXPECT_DEATH(ref_->linear(x.view(), x.view(), w.matrix()), "out is \\[2, 4\\], not \\[2, 3\\]");
  EXPECT_DEATH(ref_->add(x.view(), wide.view()), "y is");
  EXPECT_DEATH(ref_->rms_norm(x.view(), x.view(), wide.values(), 0.0F), "10 weights");
  const std::vector<int32_t> rows = {0, 2};
  EXPECT_DEATH(ref_->gather_rows(x.view(), x.view(), rows), "row 2 of");
  EXPECT_DEATH(ref_->embed(x.view(), w.matrix(), std::vector<int32_t>{0, 3}, 1.0F), "row 3 of");
  const StoredMatrix packed(kMatrixKinds[3], 3, 4, 1);
  EXPECT_DEATH(ref_->embed(x.view(), packed.matrix(), rows, 1.0F), "embedding table in FP8");
}

TEST_F(RefChecksDeathTest, GateAndGatingAgree) {
  const Tensor x({2, 4});
  EXPECT_DEATH(ref_->activate(x.view(), {}, x.view(), {}), "GeGLU \\(tanh\\) without a gate");
  EXPECT_DEATH(
      ref_->activate(x.view(), x.view(), x.view(), {ActivationFunction::kRelu2, Gating::kPlain}),
      "with a gate");
}

TEST_F(RefChecksDeathTest, ExpertsThatAreNotThere) {
  const StoredExperts experts({{kF32Kind, kF32Kind, kF32Kind}}, 2, 4, 3, Gating::kGated, 1);
  const Tensor x({1, 4});
  const Tensor out({1, 4});
  const Choice choice(1, {2}, 1);
  EXPECT_DEATH(ref_->experts(out.view(), x.view(), experts.weights(), choice.routing(), {}),
               "expert 2 of 2");
}

TEST_F(RefChecksDeathTest, PagesThatAreNotThere) {
  PagedStep step({{1, 4, 4, DType::kF32}, 1, 0, 1, 1, {{9, 1, 2}}});
  step.fill_cache();
  const Tensor q = step.q();
  const Tensor out(q.shape());
  step.page(0, 0) = kNoPage;
  EXPECT_DEATH(ref_->attention(out.view(), q.view(), step.kv(), 0, step.batch()),
               "position 0 has no page");
  ref_->attention(out.view(), q.view(), step.kv(), 6, step.batch());  // sees 4 to 9 alone
  EXPECT_DEATH(ref_->attention(out.view(), q.view(), step.kv(), 7, step.batch()),
               "position 3 has no page");
  step.page(0, 2) = kNoPage;
  EXPECT_DEATH(ref_->store_kv(step.kv(), step.k().view(), step.v().view(), step.batch()),
               "position 9 has no page");
}

}  // namespace
}  // namespace facet::test
