#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/backend.h"
#include "tests/ops/op_test.h"
#include "tests/ops/stored_matrix.h"

namespace facet::test {

/// The choice of experts of T rows, and what it stands in.
class Choice {
 public:
  /// Nothing chosen yet: experts -1, weights NaN.
  Choice(int64_t rows, int64_t top_k);
  /// Experts as given, [T, top_k]; weights random in [-1, 1).
  Choice(int64_t top_k, std::vector<int32_t> experts, uint32_t seed);
  /// top_k different experts of `count` a row, at random.
  static Choice random(int64_t rows, int64_t top_k, int32_t count, uint32_t seed);

  Routing routing() const;
  int64_t top_k() const { return weights_.shape()[1]; }
  int32_t expert(int64_t row, int64_t j) const;
  const Tensor& weights() const { return weights_; }
  Tensor& weights() { return weights_; }
  Choice rows(int64_t begin, int64_t count) const;
  bool operator==(const Choice& other) const;

 private:
  std::vector<int32_t> experts_;
  Tensor weights_;
};

/// How the three matrices of an expert are stored.
struct ExpertKind {
  MatrixKind gate;
  MatrixKind up;
  MatrixKind down;
};

/// Random experts and the bytes they view.
class StoredExperts {
 public:
  /// Expert e is stored as kinds[e % size]. Without a gate if the gating is plain.
  StoredExperts(const std::vector<ExpertKind>& kinds,
                int32_t count,
                int64_t hidden,
                int64_t width,
                Gating gating,
                uint32_t seed);
  const ExpertWeights& weights() const { return weights_; }

 private:
  std::vector<StoredMatrix> matrices_;
  ExpertWeights weights_;
};

/// The sum over the row's experts of weight * down · act(gate · x, up · x), in double; magnitudes
/// follow each sum's terms through the activation.
std::vector<Expected> expected_experts(const Tensor& x,
                                       const ExpertWeights& weights,
                                       const Choice& choice,
                                       const Activation& activation);

}  // namespace facet::test
