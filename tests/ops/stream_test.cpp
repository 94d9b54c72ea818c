// The ops on the residual stream against the primitives that define them, bit for bit: a step may
// take either.

#include <array>
#include <fmt/core.h>

#include "tests/ops/moe_step.h"

namespace facet::test {
namespace {

constexpr float kEps = 1e-6F;
constexpr int64_t kRows[] = {1, 2, 3, 7, 8, 9, 16, 33};

enum class Pends { kNothing, kBranch, kJoin };

/// A stream and what is pending, the same for the same shape.
struct StreamCase {
  Tensor x;
  Tensor spare;
  Tensor branch;
  Tensor sparse;
  std::array<Tensor, 3> norms;
  ResidualStream stream;

  StreamCase(int64_t rows, int64_t width, Pends pends)
      : x(Tensor::random({rows, width}, 1, 3.0F)),
        spare({rows, width}),
        branch(Tensor::random({rows, width}, 2, 9.0F)),
        sparse(Tensor::random({rows, width}, 3, 0.5F)),
        norms{Tensor::random({width}, 4, 2.0F), Tensor::random({width}, 5, 2.0F),
              Tensor::random({width}, 6, 2.0F)} {
    stream = {x.view(), spare.view()};
    if (pends == Pends::kNothing) return;
    stream.pending.branch = branch.view();
    stream.pending.weight = norms[0].values();
    stream.pending.factor = 0.75F;
    if (pends == Pends::kBranch) return;
    stream.pending.sparse = sparse.view();
    stream.pending.branch_norm = norms[1].values();
    stream.pending.sparse_norm = norms[2].values();
  }
  /// The stream, wherever it stands.
  Tensor settled() const {
    EXPECT_TRUE(stream.pending.branch.empty());
    const auto values = stream.x.as<float>();
    return {stream.x.shape(), {values.begin(), values.end()}};
  }
};

class StreamTest : public OpTest {
 protected:
  void check_settle(int64_t rows, int64_t width, Pends pends) {
    SCOPED_TRACE(fmt::format("[{}, {}], pending {}", rows, width, static_cast<int>(pends)));
    StreamCase fused(rows, width, pends);
    StreamCase plain(rows, width, pends);
    be().settle(fused.stream, kEps);
    be().Backend::settle(plain.stream, kEps);
    expect_same_bits(fused.settled(), plain.settled(), "settle");

    StreamCase normed(rows, width, pends);
    Tensor out({rows, width});
    be().norm_stream(normed.stream, out.view(), normed.norms[1].values(), kEps);
    expect_same_bits(normed.settled(), plain.settled(), "norm_stream");
    Tensor wanted({rows, width});
    be().rms_norm(wanted.view(), plain.stream.x, plain.norms[1].values(), kEps);
    expect_same_bits(out, wanted, "norm_stream");
  }

  struct Projected {
    Tensor x;
    std::vector<Tensor> outs;
  };

  /// `op` is the op, or its definition.
  template <typename Op>
  Projected projected(int64_t rows,
                      Pends pends,
                      const std::vector<StoredMatrix>& matrices,
                      const Op& op) {
    const int64_t width = matrices.front().matrix().cols;
    StreamCase c(rows, width, pends);
    Tensor h({rows, width});
    const Tensor norm = Tensor::random({width}, 7, 2.0F);
    std::vector<Tensor> outs;
    for (const StoredMatrix& m : matrices) outs.emplace_back(Shape{rows, m.matrix().rows});
    std::vector<Projection> products;
    for (size_t i = 0; i < matrices.size(); ++i)
      products.push_back({outs[i].view(), matrices[i].matrix()});
    op(c.stream, h.view(), norm.values(), products);
    return {c.settled(), outs};
  }

  void check_project(int64_t rows, Pends pends, const std::vector<StoredMatrix>& matrices) {
    const Projected found =
        projected(rows, pends, matrices,
                  [&](auto& stream, TensorView h, std::span<const float> norm,
                      const auto& products) { be().project(stream, h, norm, products, kEps); });
    const Projected wanted = projected(
        rows, pends, matrices,
        [&](auto& stream, TensorView h, std::span<const float> norm, const auto& products) {
          be().Backend::project(stream, h, norm, products, kEps);
        });
    expect_same_bits(found.x, wanted.x, "x");
    for (size_t i = 0; i < found.outs.size(); ++i)
      expect_same_bits(found.outs[i], wanted.outs[i], fmt::format("product {}", i));
  }

  /// Everything of one feed-forward layer, from NaN.
  struct Layer {
    StoredMatrix gate;
    StoredMatrix up;
    StoredMatrix down;
    StoredMatrix proj;
    StoredExperts experts;
    Tensor norm;
    Tensor experts_norm;
    Tensor scale;
    Tensor per_expert_scale;

    Layer(const MatrixKind& kind,
          const ExpertKind& expert_kind,
          const MatrixKind& router_kind,
          int64_t width,
          int64_t inner,
          int64_t experts_inner,
          int32_t count)
        : gate(kind, inner, width, 11),
          up(kind, inner, width, 12),
          down(kind, width, inner, 13),
          proj(router_kind, count, width, 14),
          experts({expert_kind}, count, width, experts_inner, Gating::kGated, 15),
          norm(Tensor::random({width}, 16, 2.0F)),
          experts_norm(Tensor::random({width}, 17, 2.0F)),
          scale(Tensor::random({width}, 18, 2.0F)),
          per_expert_scale(Tensor::random({count}, 19, 2.0F)) {}

    FeedForward view(bool sparse) const {
      FeedForward layer = {.norm = norm.values(),
                           .gate = gate.matrix(),
                           .up = up.matrix(),
                           .down = down.matrix(),
                           .activation = {ActivationFunction::kGeluTanh, Gating::kGated}};
      if (sparse) {
        layer.experts = &experts.weights();
        layer.router = {proj.matrix(), scale.values(), per_expert_scale.values()};
        layer.experts_norm = experts_norm.values();
      }
      return layer;
    }
  };

  struct FedForward {
    Tensor x;
    Tensor inner;
    Tensor experts_in;
    Choice choice;
    Tensor dense;
    Tensor sparse;
  };

  FedForward feed_forward(
      bool fused, int64_t rows, Pends pends, const Layer& layer, bool sparse, int64_t top_k) {
    const int64_t width = layer.norm.elements();
    StreamCase c(rows, width, pends);
    const Shape inner = {rows, layer.gate.matrix().rows};
    Tensor h({rows, width});
    Tensor gate(inner);
    FedForward result = {Tensor({rows, width}), Tensor(inner),         Tensor({rows, width}),
                         Choice(rows, top_k),   Tensor({rows, width}), Tensor({rows, width})};
    FeedForwardRows r = {.h = h.view(),
                         .gate = gate.view(),
                         .inner = result.inner.view(),
                         .dense = result.dense.view(),
                         .experts_in = {},
                         .sparse = {},
                         .routing = {}};
    if (sparse) {
      r.experts_in = result.experts_in.view();
      r.sparse = result.sparse.view();
      r.routing = result.choice.routing();
    }
    const FeedForward view = layer.view(sparse);
    if (fused) {
      be().enter_feed_forward(c.stream, r, view, kEps);
      be().leave_feed_forward(r, view);
    } else {
      be().Backend::enter_feed_forward(c.stream, r, view, kEps);
      be().Backend::leave_feed_forward(r, view);
    }
    result.x = c.settled();
    return result;
  }

  void check_feed_forward(
      int64_t rows, Pends pends, const Layer& layer, bool sparse, int64_t top_k) {
    SCOPED_TRACE(fmt::format("T {}, pending {}, {}", rows, static_cast<int>(pends),
                             sparse ? "experts" : "dense"));
    const FedForward found = feed_forward(true, rows, pends, layer, sparse, top_k);
    const FedForward wanted = feed_forward(false, rows, pends, layer, sparse, top_k);
    expect_same_bits(found.x, wanted.x, "x");
    expect_same_bits(found.inner, wanted.inner, "inner");
    expect_same_bits(found.dense, wanted.dense, "dense");
    if (!sparse) return;
    EXPECT_TRUE(found.choice == wanted.choice);
    expect_same_bits(found.experts_in, wanted.experts_in, "experts_in");
    expect_same_bits(found.sparse, wanted.sparse, "sparse");
  }
};

constexpr Pends kAllPends[] = {Pends::kNothing, Pends::kBranch, Pends::kJoin};

TEST_P(StreamTest, SettlesAsItsDefinitionSays) {
  for (const int64_t width : {1, 17, 112, 352, 1536, 2816, 5376}) {
    for (const int64_t rows : {1, 3, 33}) {
      for (const Pends pends : kAllPends) check_settle(rows, width, pends);
    }
  }
}

TEST_P(StreamTest, ProjectsInEveryFormat) {
  for (const MatrixKind& kind : kMatrixKinds) {
    const int64_t width = kind.column_step == 1 ? 112 : 3 * kind.column_step;
    for (const int64_t rows : kRows) {
      SCOPED_TRACE(fmt::format("{}: T {}", kind.name, rows));
      std::vector<StoredMatrix> matrices;
      matrices.emplace_back(kind, 127, width, 21);
      check_project(rows, Pends::kBranch, matrices);
      matrices.emplace_back(kind, 40, width, 22);
      matrices.emplace_back(kind, 8, width, 23);
      check_project(rows, Pends::kJoin, matrices);
    }
  }
}

TEST_P(StreamTest, ProjectsLargeAndUnlikeMatrices) {
  const MatrixKind& bf16 = kMatrixKinds[2];
  for (const int64_t rows : {1, 2, 5}) {
    for (const Pends pends : kAllPends) {
      SCOPED_TRACE(fmt::format("T {}, pending {}", rows, static_cast<int>(pends)));
      std::vector<StoredMatrix> wide;
      wide.emplace_back(bf16, 300, 2816, 24);
      wide.emplace_back(bf16, 33, 2816, 25);
      check_project(rows, pends, wide);
      std::vector<StoredMatrix> high;
      high.emplace_back(bf16, 6500, 72, 30);
      high.emplace_back(bf16, 2200, 72, 31);
      check_project(rows, pends, high);
      std::vector<StoredMatrix> unlike;
      unlike.emplace_back(bf16, 50, 96, 26);
      unlike.emplace_back(kMatrixKinds[7], 50, 96, 27);
      unlike.emplace_back(kF32Kind, 50, 96, 28);
      check_project(rows, pends, unlike);
    }
  }
  std::vector<StoredMatrix> odd;
  odd.emplace_back(bf16, 5, 17, 29);
  check_project(2, Pends::kJoin, odd);
}

TEST_P(StreamTest, FeedsForwardInEveryFormat) {
  for (const MatrixKind& kind : kMatrixKinds) {
    const int64_t step = kind.column_step;
    const int64_t width = step == 1 ? 112 : step == 16 ? 112 : step;
    const int64_t inner = step == 1 ? 50 : step == 16 ? 48 : 3 * step;
    SCOPED_TRACE(kind.name);
    const Layer layer(kind, {kind, kind, kind}, kMatrixKinds[2], width, inner, inner, 9);
    for (const int64_t rows : kRows) {
      check_feed_forward(rows, Pends::kBranch, layer, true, 3);
      check_feed_forward(rows, Pends::kNothing, layer, false, 3);
    }
  }
}

// As in the large model: BF16 with NVFP4 experts, 128 of them.
TEST_P(StreamTest, FeedsForwardThroughManyExperts) {
  const MatrixKind& nvfp4 = kMatrixKinds[7];
  const Layer layer(kMatrixKinds[2], {nvfp4, nvfp4, nvfp4}, kMatrixKinds[2], 352, 200, 80, 128);
  for (const int64_t rows : kRows) {
    for (const Pends pends : kAllPends) check_feed_forward(rows, pends, layer, true, 8);
  }
  const Layer odd(kMatrixKinds[2], {nvfp4, nvfp4, nvfp4}, kF32Kind, 96, 40, 48, 130);
  for (const int64_t rows : {1, 2, 6}) check_feed_forward(rows, Pends::kBranch, odd, true, 8);
}

// A dense layer whose rows do not all fit into shared memory beside what streams the experts.
TEST_P(StreamTest, FeedsForwardThroughAWideDenseLayer) {
  const MatrixKind& nvfp4 = kMatrixKinds[7];
  const Layer layer(kMatrixKinds[2], {nvfp4, nvfp4, nvfp4}, kMatrixKinds[2], 64, 12352, 48, 9);
  for (const int64_t rows : {1, 7, 8}) check_feed_forward(rows, Pends::kBranch, layer, true, 3);
}

INSTANTIATE_TEST_SUITE_P(Backends, StreamTest, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace facet::test
