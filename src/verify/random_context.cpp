#include "verify/random_context.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "tensor/device_copy.h"

namespace facet {
namespace {

/// Uniform values of mean 0 and variance 1, the same on every machine (splitmix64).
class Uniform {
 public:
  float next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    const auto unit = static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
    return static_cast<float>((2.0 * unit - 1.0) * std::sqrt(3.0));
  }

 private:
  uint64_t state_ = 0;
};

/// The rows of one store.
struct ContextRows {
  ContextRows(int32_t first, int32_t rows)
      : positions(static_cast<size_t>(rows)),
        sequence_of_row(positions.size(), 0),
        sequence({0, rows, first}) {
    std::iota(positions.begin(), positions.end(), first);
  }
  Batch batch() const { return {positions, sequence_of_row, {&sequence, 1}}; }

  std::vector<int32_t> positions;
  std::vector<int32_t> sequence_of_row;
  SequenceRows sequence;
};

void store(const ContextTarget& target,
           int32_t layer,
           TensorView k,
           TensorView v,
           const ContextRows& rows) {
  CacheViews all;
  target.cache.views({&target.slot, 1}, all);
  Backend& backend = target.side.backend;
  const Batch batch = rows.batch();
  const DeviceCopy k_there(k, backend.allocator());
  const DeviceCopy v_there(v, backend.allocator());
  backend.begin_step({.batch = batch, .kv = all.layers, .watched = true});
  backend.store_kv(target.side.model.kv_of(layer, all.layers), k_there.view(), v_there.view(),
                   batch);
  backend.end_step({});
}

}  // namespace

void fill_random_context(const ContextTarget& ref, const ContextTarget& fast, int32_t positions) {
  const gemma4::Gemma4Model& model = ref.side.model;
  Uniform uniform;
  for (int32_t at = 0; at < positions; at += kContextStep) {
    const ContextRows rows(at, std::min(kContextStep, positions - at));
    const auto count = static_cast<int64_t>(rows.positions.size());
    for (const ContextTarget* target : {&ref, &fast}) {
      CHECK(target->cache.reserve(target->slot, rows.sequence.rows), "no room for {} positions",
            at + rows.sequence.rows);
    }
    for (int32_t layer = 0; layer < model.config().num_hidden_layers; ++layer) {
      const gemma4::LayerConfig& c = model.config().layers[static_cast<size_t>(layer)];
      if (c.kv_donor != layer) continue;
      const gemma4::Vector& norm =
          model.weights().layers[static_cast<size_t>(layer)].self_attn.k_norm;
      std::vector<float> k(static_cast<size_t>(count * c.kv_size()));
      std::vector<float> v(k.size());
      for (size_t i = 0; i < k.size(); ++i) {
        k[i] = uniform.next() * norm[i % norm.size()];
        v[i] = uniform.next();
      }
      const Shape shape = {count, c.num_kv_heads, c.head_dim};
      for (const ContextTarget* target : {&ref, &fast}) {
        store(*target, layer, {k.data(), DType::kF32, shape}, {v.data(), DType::kF32, shape}, rows);
      }
    }
    for (const ContextTarget* target : {&ref, &fast}) {
      target->cache.advance(target->slot, rows.sequence.rows);
    }
  }
}

}  // namespace facet
