#include "tests/fake/fake_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/check.h"
#include "engine/sampling.h"

namespace facet::test {
namespace {

constexpr int64_t kFloats = 2;  // 64 bits
constexpr auto kBytes = static_cast<size_t>(kFloats) * sizeof(float);

int64_t width(const TensorView& x) { return x.elements() / x.rows(); }

std::byte* place(const KvView& kv, PageId page, int32_t position) {
  const int64_t element = to_index(page) * page_elements(kv.layout) +
                          int64_t{position % kv.layout.page_size} * kv.layout.head_dim;
  return kv.k + element * static_cast<int64_t>(sizeof(float));
}

void copy_rows(const TensorView& out, const TensorView& x) {
  if (out.data() == x.data()) return;
  const auto* from = static_cast<const float*>(x.data());
  auto* to = static_cast<float*>(out.data());
  const int64_t from_width = width(x);
  const int64_t to_width = width(out);
  for (int64_t row = 0; row < x.rows(); ++row)
    std::memcpy(to + row * to_width, from + row * from_width, kBytes);
}

int32_t draw(const DrawSpec& spec, const TopLogits& top) {
  if (spec.top_k < 1 || top.entries.empty()) return -1;
  const auto whole = [](const uint32_t(&halves)[2]) {
    return halves[0] | uint64_t{halves[1]} << 32;
  };
  SamplingParams params;
  params.temperature = spec.temperature;
  params.top_k = spec.top_k;
  params.top_p = spec.top_p;
  params.min_p = spec.min_p;
  params.seed = whole(spec.seed);
  params.choice = spec.choice;
  Sampler::Scratch scratch;
  Sampler sampler(params, {spec.excluded, spec.excluded + spec.excluded_count}, scratch);
  return sampler.sample_top(top.entries, static_cast<int64_t>(whole(spec.position)), {})
      .value_or(-1);
}

[[noreturn]] void unused(const char* op) {
  check_failed(__FILE__, __LINE__, op, "not in this model");
}

}  // namespace

uint64_t FakeOps::get(const TensorView& x, int64_t row) {
  uint64_t value = 0;
  std::memcpy(&value, static_cast<const float*>(x.data()) + row * width(x), kBytes);
  return value;
}

void FakeOps::set(const TensorView& x, int64_t row, uint64_t value) {
  std::memcpy(static_cast<float*>(x.data()) + row * width(x), &value, kBytes);
}

void FakeOps::embed(TensorView out,
                    const WeightMatrix& /*table*/,
                    std::span<const int32_t> ids,
                    float /*scale*/) {
  begin_rows(static_cast<int32_t>(ids.size()));
  for (size_t row = 0; row < ids.size(); ++row)
    set(out, static_cast<int64_t>(row), row_of(ids[row]));
}

void FakeOps::rms_norm(TensorView out,
                       TensorView x,
                       std::span<const float> /*weight*/,
                       float /*eps*/) {
  copy_rows(out, x);
}

void FakeOps::linear(TensorView out, TensorView x, const WeightMatrix& w) {
  if (w.rows == 0) {
    copy_rows(out, x);
    return;
  }
  const std::span<float> logits = out.as<float>();
  const auto vocab = static_cast<size_t>(w.rows);
  for (int64_t row = 0; row < x.rows(); ++row)
    logits_of(get(x, row), logits.subspan(static_cast<size_t>(row) * vocab, vocab));
}

void FakeOps::rope(TensorView x, std::span<const int32_t> positions, const RopeTable& /*table*/) {
  for (size_t row = 0; row < positions.size(); ++row) {
    const auto r = static_cast<int64_t>(row);
    set(x, r, at_position(get(x, r), positions[row]));
  }
}

void FakeOps::store_kv(const KvView& kv, TensorView k, TensorView /*v*/, const Batch& batch) {
  for (int64_t row = 0; row < batch.rows(); ++row) {
    const auto r = static_cast<size_t>(row);
    const int32_t position = batch.positions[r];
    const auto& table = kv.page_tables[static_cast<size_t>(batch.sequence_of_row[r])];
    const PageId page = table[static_cast<size_t>(position / kv.layout.page_size)];
    CHECK(page != kNoPage, "position {} has no page", position);
    const uint64_t value = get(k, row);
    std::memcpy(place(kv, page, position), &value, kBytes);
  }
}

uint64_t FakeOps::stored(const KvView& kv, size_t sequence, int32_t position) {
  const PageId page = kv.page_tables[sequence][static_cast<size_t>(position / kv.layout.page_size)];
  uint64_t value = 0;
  if (page != kNoPage) std::memcpy(&value, place(kv, page, position), kBytes);
  return value;
}

void FakeOps::activate(TensorView out,
                       TensorView /*gate*/,
                       TensorView up,
                       const Activation& /*activation*/) {
  copy_rows(out, up);
}

void FakeOps::gather_rows(TensorView out, TensorView x, std::span<const int32_t> rows) {
  for (size_t i = 0; i < rows.size(); ++i) set(out, static_cast<int64_t>(i), get(x, rows[i]));
}

bool FakeOps::begin_step(const StepInputs& inputs) {
  kept_ = keeps_logits && inputs.top_logits && !inputs.logit_rows.empty();
  draws_ = draws_tokens ? inputs.draws : std::span<const DrawSpec>();
  top_.clear();
  entries_.clear();
  drawn_.clear();
  return true;
}

void FakeOps::select_top(TensorView logits) {
  if (!kept_) return;
  constexpr size_t kWanted = 8;
  const auto vocab = static_cast<size_t>(width(logits));
  for (int64_t row = 0; row < logits.rows(); ++row) {
    const std::span<const float> all = logits.slice_rows(row, 1).as<float>();
    bool finite = true;
    for (const float logit : all) finite = finite && std::isfinite(logit);
    std::vector<float> sorted(all.begin(), all.end());
    std::vector<TopLogits::Entry>& entries = entries_.emplace_back();
    if (finite) {
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      const float least = sorted[std::min(kWanted, vocab) - 1];
      for (size_t id = vocab; id-- > 0;) {
        if (all[id] >= least) entries.push_back({all[id], static_cast<int32_t>(id)});
      }
      if (entries.size() > kWanted) entries.clear();  // too many equals
    }
    top_.push_back({{}, finite});
  }
  for (size_t row = 0; row < top_.size(); ++row) top_[row].entries = entries_[row];
  for (size_t row = 0; row < draws_.size(); ++row) drawn_.push_back(draw(draws_[row], top_[row]));
  // Nobody needs more where all were drawn.
  if (!drawn_.empty() && std::ranges::none_of(drawn_, [](int32_t id) { return id < 0; })) {
    for (TopLogits& row : top_) row.entries = {};
  }
}

TensorView FakeOps::end_step(TensorView result) { return kept_ ? TensorView() : result; }

TensorView FakeOps::fetch(TensorView rows) {
  const std::span<const float> from = rows.as<float>();
  fetched_.assign(from.begin(), from.end());
  return {fetched_.data(), rows.dtype(), rows.shape()};
}

void FakeOps::add_rms_norm(TensorView x,
                           TensorView h,
                           std::span<const float> /*weight*/,
                           float /*eps*/,
                           float /*factor*/) {
  for (int64_t row = 0; row < x.rows(); ++row) set(x, row, joined(get(x, row), get(h, row)));
}

void FakeOps::route(const Routing& /*routing*/,
                    TensorView /*x*/,
                    const RouterWeightsView& /*router*/,
                    float /*eps*/) {
  unused("route");
}

void FakeOps::experts(TensorView /*out*/,
                      TensorView /*x*/,
                      const ExpertWeights& /*weights*/,
                      const Routing& /*routing*/,
                      const Activation& /*activation*/) {
  unused("experts");
}

void FakeOps::add(TensorView /*x*/, TensorView /*y*/) { unused("add"); }
void FakeOps::scale(TensorView /*x*/, float /*factor*/) { unused("scale"); }
void FakeOps::soft_cap(TensorView /*x*/, float /*cap*/) { unused("soft_cap"); }

std::unique_ptr<gemma4::Gemma4Model> make_fake_model(Backend& backend,
                                                     const FakeModelOptions& options) {
  gemma4::Gemma4Config config;
  config.vocab_size = options.vocab_size;
  config.hidden_size = static_cast<int32_t>(kFloats);
  config.num_hidden_layers = 2;
  config.max_position_embeddings = options.max_positions;
  config.hidden_size_per_layer_input = 0;
  for (int32_t layer = 0; layer < 2; ++layer) {
    gemma4::LayerConfig made;
    made.attention = layer == 0 ? gemma4::LayerConfig::Attention::kSliding
                                : gemma4::LayerConfig::Attention::kFull;
    made.num_heads = 1;
    made.num_kv_heads = 1;
    made.head_dim = static_cast<int32_t>(kFloats);
    made.window = layer == 0 ? options.window : 0;
    made.k_eq_v = true;
    made.rope = {1e4, 1};
    made.intermediate_size = static_cast<int32_t>(kFloats);
    made.kv_donor = layer;
    config.layers.push_back(made);
  }
  gemma4::Weights weights;
  weights.layers.resize(2);
  weights.lm_head.rows = options.vocab_size;  // how linear() knows it
  return std::make_unique<gemma4::Gemma4Model>(
      std::move(config), std::move(weights),
      Activation{ActivationFunction::kGeluTanh, Gating::kPlain}, backend,
      gemma4::StepLimits{options.max_rows, options.max_logit_rows});
}

}  // namespace facet::test
