// The promise of backend.h: what a row gets does not depend on which other rows share the call, bit
// for bit. (Attention's is in attention_test.cpp.)

#include <fmt/core.h>
#include <limits>

#include "tests/ops/moe_step.h"

namespace facet::test {
namespace {

constexpr int64_t kRows = 33;
constexpr int64_t kSplits[][4] = {{1, 2, 7, 23}, {8, 8, 16, 1}, {5, 11, 1, 16}};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class RowIndependenceTest : public OpTest {
 protected:
  /// Runs `op` on 33 rows at once, on every row alone, in chunks, and with each row among rows of
  /// NaN. `op` takes rows of x and y and gives rows of the result.
  void check(const std::string& what,
             const Tensor& x,
             const Tensor& y,
             const std::function<Tensor(const Tensor& x, const Tensor& y)>& op) {
    const Tensor all = op(x, y);
    for (int64_t t = 0; t < kRows; ++t) {
      expect_same_bits(op(x.rows(t, 1), y.rows(t, 1)), all.rows(t, 1), what + ", alone");
      if (HasFatalFailure()) return;
    }
    for (const auto& split : kSplits) {
      int64_t begin = 0;
      for (const int64_t count : split) {
        expect_same_bits(op(x.rows(begin, count), y.rows(begin, count)), all.rows(begin, count),
                         what + ", in chunks");
        if (HasFatalFailure()) return;
        begin += count;
      }
    }
    for (const int64_t t : {0, 7, 16, 32}) {
      Tensor broken = x;
      for (int64_t other = 0; other < kRows; ++other) {
        if (other != t) broken.fill_row(other, kNan);
      }
      expect_same_bits(op(broken, y).rows(t, 1), all.rows(t, 1), what + ", among NaN");
      if (HasFatalFailure()) return;
    }
  }
  void check(const std::string& what,
             const Tensor& x,
             const std::function<Tensor(const Tensor& x)>& op) {
    check(what, x, x, [&](const Tensor& rows, const Tensor&) { return op(rows); });
  }
};

TEST_P(RowIndependenceTest, Norms) {
  for (const int64_t width : kAwkwardWidths) {
    const Tensor x = Tensor::random({kRows, width}, 1, 9.0F);
    const Tensor y = Tensor::random({kRows, width}, 2);
    const Tensor weight = Tensor::random({width}, 3);
    const Tensor other = Tensor::random({width}, 4);
    check("rms_norm", x, [&](const Tensor& rows) {
      Tensor out(rows.shape());
      be().rms_norm(out.view(), rows.view(), weight.values(), 1e-6F);
      return out;
    });
    check("add_rms_norm", x, y, [&](Tensor rows, Tensor h) {
      be().add_rms_norm(rows.view(), h.view(), weight.values(), 1e-6F, 0.3F);
      return rows;
    });
    check("join_branches", x, y, [&](Tensor dense, Tensor sparse) {
      be().join_branches(dense.view(), sparse.view(), weight.values(), other.values(), 1e-6F);
      return dense;
    });
  }
}

TEST_P(RowIndependenceTest, Elementwise) {
  for (const int64_t width : kAwkwardWidths) {
    const Tensor x = Tensor::random({kRows, width}, 5, 9.0F);
    const Tensor y = Tensor::random({kRows, width}, 6);
    check("add", x, y, [&](Tensor a, const Tensor& b) {
      be().add(a.view(), b.view());
      return a;
    });
    check("scale", x, [&](Tensor a) {
      be().scale(a.view(), 0.3F);
      return a;
    });
    check("soft_cap", x, [&](Tensor a) {
      be().soft_cap(a.view(), 3.0F);
      return a;
    });
    for (const auto function :
         {ActivationFunction::kSilu, ActivationFunction::kGeluTanh, ActivationFunction::kRelu2}) {
      check("activate, plain", x, [&](const Tensor& up) {
        Tensor out(up.shape());
        be().activate(out.view(), {}, up.view(), {function, Gating::kPlain});
        return out;
      });
      if (function == ActivationFunction::kRelu2) continue;
      check("activate, gated", x, y, [&](const Tensor& gate, const Tensor& up) {
        Tensor out(up.shape());
        be().activate(out.view(), gate.view(), up.view(), {function, Gating::kGated});
        return out;
      });
    }
  }
}

TEST_P(RowIndependenceTest, Rope) {
  const RopeTable table = make_rope_table(36, 1e4, 13);
  const Tensor x = Tensor::random({kRows, 3, 36}, 7);
  Tensor positions({kRows, 1});
  for (int64_t t = 0; t < kRows; ++t) positions[t] = static_cast<float>(t * 1237 % 5000);
  check("rope", x, positions, [&](Tensor rows, const Tensor& at) {
    const std::vector<int32_t> own(at.values().begin(), at.values().end());
    be().rope(rows.view(), own, table);
    return rows;
  });
}

TEST_P(RowIndependenceTest, EmbedAndGather) {
  const StoredMatrix table(kMatrixKinds[2], 50, 17, 8);
  const Tensor source = Tensor::random({50, 17}, 9);
  Tensor numbers({kRows, 1});
  for (int64_t t = 0; t < kRows; ++t) numbers[t] = static_cast<float>(t * 13 % 50);
  const Tensor none = Tensor::random({kRows, 1}, 10);
  check("embed", none, numbers, [&](const Tensor&, const Tensor& ids) {
    const std::vector<int32_t> own(ids.values().begin(), ids.values().end());
    Tensor out({ids.shape()[0], 17});
    be().embed(out.view(), table.matrix(), own, 1.7F);
    return out;
  });
  check("gather_rows", none, numbers, [&](const Tensor&, const Tensor& ids) {
    const std::vector<int32_t> own(ids.values().begin(), ids.values().end());
    Tensor out({ids.shape()[0], 17});
    be().gather_rows(out.view(), source.view(), own);
    return out;
  });
}

TEST_P(RowIndependenceTest, LinearInEveryFormat) {
  for (const MatrixKind& kind : kMatrixKinds) {
    for (const int64_t out_rows : {3, 131}) {
      for (const int64_t cols : {384, 3200}) {
        if (cols == 3200 && out_rows == 131) continue;
        const StoredMatrix w(kind, out_rows, cols, 11);
        const Tensor x = Tensor::random({kRows, cols}, 12);
        check(fmt::format("linear {} [{}, {}]", kind.name, out_rows, cols), x,
              [&](const Tensor& rows) {
                Tensor out({rows.shape()[0], out_rows});
                be().linear(out.view(), rows.view(), w.matrix());
                return out;
              });
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(RowIndependenceTest, Route) {
  const StoredMatrix proj(kMatrixKinds[2], 40, 112, 13);
  const Tensor scale = Tensor::random({112}, 14, 5.0F);
  const Tensor per_expert = Tensor::random({40}, 15);
  const RouterWeightsView router = {proj.matrix(), scale.values(), per_expert.values()};
  // Experts and weights side by side; expert ids are exact in float32.
  check("route", Tensor::random({kRows, 112}, 16), [&](const Tensor& x) {
    const int64_t rows = x.shape()[0];
    Choice choice(rows, 8);
    be().route(choice.routing(), x.view(), router, 1e-6F);
    Tensor out({rows, 16});
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < 8; ++j) {
        out[t * 16 + j] = static_cast<float>(choice.expert(t, j));
        out[t * 16 + 8 + j] = choice.weights()[t * 8 + j];
      }
    }
    return out;
  });
}

TEST_P(RowIndependenceTest, RouteOfManyRows) {
  // So many that a backend may take other kernels; 41 experts and 301 rows fill no tile.
  constexpr int64_t kMany = 301;
  const StoredMatrix proj(kMatrixKinds[2], 41, 352, 23);
  const Tensor scale = Tensor::random({352}, 24, 5.0F);
  const Tensor per_expert = Tensor::random({41}, 25);
  const RouterWeightsView router = {proj.matrix(), scale.values(), per_expert.values()};
  const Tensor x = Tensor::random({kMany, 352}, 26);
  Choice all(kMany, 8);
  be().route(all.routing(), x.view(), router, 1e-6F);
  for (int64_t t = 0; t < kMany; ++t) {
    Choice alone(1, 8);
    be().route(alone.routing(), x.rows(t, 1).view(), router, 1e-6F);
    EXPECT_EQ(alone, all.rows(t, 1)) << "row " << t;
  }
}

TEST_P(RowIndependenceTest, ExpertsInEveryFormat) {
  for (const MatrixKind& kind : kMatrixKinds) {
    const int64_t hidden = kind.column_step == 1 ? 50 : 128;
    const int64_t width = kind.column_step == 1 ? 17 : 128;
    const StoredExperts experts({{kind, kind, kind}}, 4, hidden, width, Gating::kGated, 17);
    const Choice choice = Choice::random(kRows, 2, 4, 18);
    const Tensor x = Tensor::random({kRows, hidden}, 19);
    Tensor numbers({kRows, 1});
    for (int64_t t = 0; t < kRows; ++t) numbers[t] = static_cast<float>(t);
    check(fmt::format("experts {}", kind.name), x, numbers,
          [&](const Tensor& rows, const Tensor& which) {
            const Choice own = choice.rows(static_cast<int64_t>(which[0]), which.shape()[0]);
            Tensor out(rows.shape());
            be().experts(out.view(), rows.view(), experts.weights(), own.routing(),
                         {ActivationFunction::kGeluTanh, Gating::kGated});
            return out;
          });
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         RowIndependenceTest,
                         testing::ValuesIn(backends()),
                         backend_name);

}  // namespace
}  // namespace facet::test
