// All of a step of few tokens, up to its logits, as one launch: what they are made of, checked and
// translated.

#include <algorithm>
#include <bit>
#include <optional>

#include "base/check.h"
#include "kernels/cuda/carver.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/operands.h"

namespace facet::cuda {
namespace {

/// BF16 as it stands, [rows, cols], at 16 bytes, in whole bands and steps.
bool plain(const WeightMatrix& w, int64_t rows, int64_t cols) {
  constexpr int kBand = 16;
  return w.format == WeightFormat::kBF16 && w.rows == rows && w.cols == cols && rows % kBand == 0 &&
         cols % kStep == 0 && reinterpret_cast<uintptr_t>(w.data) % 16 == 0;
}

const uint8_t* bytes_of(const WeightMatrix& w) { return reinterpret_cast<const uint8_t*>(w.data); }

/// The place of `kind` among those of `args`, which gets it if it has room; nullopt if not.
/// `ropes`: theirs. Every layer has a table of its own.
std::optional<int32_t> place_of(FewTokensKind kind,
                                const RopeTable& rope,
                                FewTokensArgs& args,
                                FewTokensRopes& ropes) {
  for (int32_t i = 0; i < FewTokensArgs::kKinds; ++i) {
    const auto at = static_cast<size_t>(i);
    if (ropes[at] == nullptr) {
      args.kinds[i] = kind;
      ropes[at] = &rope;
      return i;
    }
    if (ropes[at]->frequencies != rope.frequencies) continue;
    kind.frequencies = args.kinds[i].frequencies;
    if (args.kinds[i] == kind) return i;
  }
  return std::nullopt;
}

}  // namespace

/// Null where few_tokens() has no such layer, or other kernels were asked for. What the layer's
/// caches and frequencies want goes to `args`, and what it makes of the sizes, if it is the first.
std::optional<FewTokensLayer> CudaBackend::few_tokens_layer(const DecoderLayer& layer,
                                                            const Batch& batch,
                                                            FewTokensArgs& args,
                                                            FewTokensRopes& ropes) const {
  const FeedForward& ff = layer.feed_forward;
  const KvLayout& kv = layer.kv.layout;
  if (ff.experts == nullptr || ff.activation.gating != Gating::kGated || layer.k.empty() ||
      kv.dtype != DType::kBF16)
    return std::nullopt;
  const LoadedExperts& loaded = weights_.find(*ff.experts);
  const ExpertsLayer& experts = loaded.layer;
  if (experts.experts == nullptr || experts.format != WeightFormat::kNvfp4 ||
      experts.form != ProductForm::kByTokens || !experts_fit(experts) ||
      experts.activation != ff.activation)
    return std::nullopt;
  if (args.count == 0) {
    args.hidden = static_cast<int32_t>(layer.q.cols);
    args.dense_width = static_cast<int32_t>(ff.up.rows);
    args.expert_width = experts.width;
    args.experts = experts.count;
    args.function = ff.activation.function;
  }
  const int64_t kv_size = int64_t{kv.kv_heads} * kv.head_dim;
  const int64_t width = args.dense_width;
  const bool same = args.hidden == experts.hidden && args.expert_width == experts.width &&
                    args.experts == experts.count && args.function == ff.activation.function;
  if (!same || !plain(layer.q, layer.q.rows, args.hidden) || layer.q.rows % kv.head_dim != 0 ||
      !plain(layer.k, kv_size, args.hidden) ||
      !(layer.v_is_k || plain(layer.v, kv_size, args.hidden)) ||
      !plain(layer.o, args.hidden, layer.q.rows) || !plain(ff.gate, width, args.hidden) ||
      !plain(ff.up, width, args.hidden) || !plain(ff.down, args.hidden, width) ||
      !plain(ff.router.proj, experts.count, args.hidden) || layer.result.sparse.empty() ||
      linear_weights(layer.q).form != ProductForm::kByTokens ||
      !plan_attention_tiles(
          kernels_.setup(),
          {kv.dtype, kv.head_dim, static_cast<int32_t>(layer.q.rows / kv.head_dim), kv.kv_heads}))
    return std::nullopt;

  const StepTables tables = arena_.tables(layer.kv);
  FewTokensKind kind;
  kind.table_begin = tables.begin;
  kind.pages = tables.pages;
  kind.frequencies = weights_.find(layer.rope.frequencies, "rope");
  kind.angles = static_cast<int32_t>(layer.rope.frequencies.size());
  kind.page_size = kv.page_size;
  kind.head_dim = kv.head_dim;
  kind.q_heads = static_cast<int32_t>(layer.q.rows / kv.head_dim);
  kind.kv_heads = kv.kv_heads;
  kind.window = layer.window;
  deal_positions(kind, args.longest, args.few_parts);
  const std::optional<int32_t> place = place_of(kind, layer.rope, args, ropes);
  if (!place) return std::nullopt;

  const auto vector = [&](std::span<const float> of, const char* name) {
    return weights_.find(of, name);
  };
  FewTokensLayer out;
  out.v_is_k = layer.v_is_k ? 1 : 0;
  out.router = bytes_of(ff.router.proj);
  out.experts = experts.experts;
  out.k_cache = layer.kv.k;
  out.v_cache = layer.kv.v;
  out.input_norm = vector(layer.attention_in_norm, "attention_in_norm");
  out.q_norm = vector(layer.q_norm, "q_norm");
  out.k_norm = vector(layer.k_norm, "k_norm");
  out.attention_norm = vector(layer.attention_out_norm, "attention_out_norm");
  out.dense_norm = vector(ff.norm, "norm");
  out.experts_norm = vector(ff.experts_norm, "experts_norm");
  out.router_scale = vector(ff.router.scale, "router");
  out.per_expert_scale = vector(ff.router.per_expert_scale, "router");
  out.dense_out_norm = vector(layer.result.branch_norm, "branch_norm");
  out.sparse_out_norm = vector(layer.result.sparse_norm, "sparse_norm");
  out.out_norm = vector(layer.result.weight, "weight");
  out.factor = layer.result.factor;
  out.kind = *place;

  for (const int32_t position : batch.positions) {
    const int64_t end = int64_t{position} + 1;
    const int64_t seen = layer.window > 0 ? std::min<int64_t>(end, layer.window) : end;
    args.bytes += seen * kv_size * 2 * int64_t{sizeof(uint16_t)};
  }
  for (const WeightMatrix* w :
       {&layer.q, &layer.k, &layer.o, &ff.gate, &ff.up, &ff.down, &ff.router.proj})
    args.bytes += stored_bytes(*w);
  if (!layer.v_is_k) args.bytes += stored_bytes(layer.v);
  args.expert_bytes += 3 * expert_matrix_bytes(experts);
  return out;
}

bool CudaBackend::few_tokens_tables(std::span<const DecoderLayer> of,
                                    std::vector<FewTokensLayer> layers,
                                    const WeightMatrix* head,
                                    FewTokensArgs& args) {
  constexpr size_t kMaps = kMapsOfMatrices + 2 * kMapsOfCache;
  FewTokensLayer* table = nullptr;
  CUtensorMap* maps_there = nullptr;
  const auto carve = [&](std::byte* memory) {
    Carver carver(memory);
    table = carver.take<FewTokensLayer>(std::ssize(layers));
    maps_there =
        carver.take<CUtensorMap>(std::ssize(layers) * static_cast<int64_t>(kMaps) + kMapSteps);
    return carver.used();
  };
  carve(workspace(few_tokens_table_, carve(nullptr)));
  for (size_t i = 0; i < layers.size(); ++i) layers[i].maps = maps_there + i * kMaps;
  args.layers = table;
  args.head.maps = maps_there + layers.size() * kMaps;
  const std::byte* head_data = head == nullptr ? nullptr : head->data;
  if (layers == few_tokens_layers_ && head_data == few_tokens_head_) return true;
  if (graphs_.recording() || profile_.recording()) return false;
  std::vector<CUtensorMap> maps;
  const auto add_rows = [&](const WeightMatrix& w) {
    for (int steps = 1; steps <= kMapSteps; ++steps)
      maps.push_back(map_of_rows(w.data, w.rows, w.cols, steps));
  };
  for (const DecoderLayer& layer : of) {
    const FeedForward& ff = layer.feed_forward;
    for (const WeightMatrix* w : {&layer.q, &layer.k, layer.v_is_k ? &layer.k : &layer.v, &layer.o,
                                  &ff.gate, &ff.up, &ff.down})
      add_rows(*w);
    for (const std::byte* cache : {layer.kv.k, layer.kv.v})
      for (int rows = 1 << (kMapsOfCache - 1); rows > 0; rows /= 2)
        maps.push_back(map_of_cache(cache, layer.kv.layout.head_dim, rows));
  }
  if (head != nullptr) add_rows(*head);
  check(cudaStreamSynchronize(stream_), "the last step");  // it may still read the old one
  const auto copy = [](void* to, const auto& from) {
    check(cudaMemcpy(to, from.data(), from.size() * sizeof(from[0]), cudaMemcpyHostToDevice),
          "the layers' table");
  };
  copy(table, layers);
  copy(maps_there, maps);
  forget_graphs();  // they found the old one in its place
  few_tokens_layers_ = std::move(layers);
  few_tokens_head_ = head_data;
  return true;
}

bool CudaBackend::few_tokens_rooms(FewTokensArgs& args) {
  FewTokensRooms& rooms = args.rooms;
  int64_t q = 0;
  int64_t kv = 0;
  int64_t partials = 0;
  for (const FewTokensKind& kind : args.kinds) {
    q = std::max(q, int64_t{kind.q_heads} * kind.head_dim);
    kv = std::max(kv, int64_t{kind.kv_heads} * kind.head_dim);
    partials = std::max(partials, few_tokens_partials(kind));
  }
  // Room for the most tokens, whatever the step has: what is no word stays where it is, for words
  // that come to lie on something else may look like some that were told.
  const auto carve = [&](std::byte* memory) {
    Carver carver(memory);
    const auto words = [&](int64_t of_token) { return carver.take<uint2>(kMostTokens * of_token); };
    args.done = carver.take<uint32_t>(multiprocessors());
    rooms.streams =
        carver.take<float>(std::max(multiprocessors(), kMostTokens) * int64_t{args.hidden});
    rooms.q = words(q);
    rooms.k = words(kv);
    rooms.v = words(kv);
    rooms.attended = words(q / 2);
    rooms.branch = words(args.hidden);
    rooms.input = words(args.hidden / 2);
    rooms.between = words(args.hidden);
    rooms.inner = words(args.dense_width / 2);
    rooms.dense = words(args.hidden);
    rooms.sparse = words(args.hidden);
    rooms.spread = words(int64_t{kTokenExperts} * args.hidden);
    rooms.logits = words(args.experts);
    rooms.expert_inner = words(int64_t{args.top_k} * args.expert_width / 2);
    rooms.partials = carver.take<uint2>(args.tokens * partials);  // last, for their size changes
    return carver.used();
  };
  const int64_t bytes = carve(nullptr);
  if (bytes > few_tokens_words_.bytes()) {
    if (graphs_.recording() || profile_.recording()) return false;
    check(cudaStreamSynchronize(stream_), "the last step");
    few_tokens_words_ = Buffer(bytes, device_allocator());  // zeros
    forget_graphs();
  }
  carve(few_tokens_words_.data());
  return true;
}

void CudaBackend::add_head(const LmHead& head, FewTokensArgs& args) {
  args.head.norm = weights_.find(head.norm, "norm");
  args.head.logits = values(head.logits, {args.tokens, head.w.rows}, "logits");
  args.head.rows = static_cast<int32_t>(head.w.rows);
  args.head.cap = head.cap.value_or(0.0F);
  args.bytes += stored_bytes(head.w) + head.logits.bytes();
}

bool CudaBackend::add_embedding(const TokenEmbedding& embedding, FewTokensArgs& args) {
  if (!plain(embedding.table, embedding.table.rows, args.hidden)) return false;
  args.embedding.table = reinterpret_cast<const uint16_t*>(embedding.table.data);
  args.embedding.ids = arena_.find(embedding.ids, "embed");
  args.embedding.scale = embedding.scale;
  return true;
}

Decoded CudaBackend::decode(ResidualStream& stream, const Decoder& decoder, const Batch& batch) {
  const std::span<const DecoderLayer> layers = decoder.layers;
  const bool one_row_each =
      std::ranges::all_of(batch.sequences, [](const SequenceRows& of) { return of.rows == 1; });
  if (!unwatched_step_ || batch.rows() == 0 || batch.rows() > kMostTokens ||
      batch.rows() != std::ssize(batch.sequences) || !one_row_each || layers.empty() ||
      !stream.pending.branch.empty())
    return Decoded::kNothing;
  FewTokensArgs args;
  args.tokens = static_cast<int32_t>(batch.rows());
  args.few_parts = few_token_parts(args.tokens);
  args.longest = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(arena_.longest())));
  const bool wanted = kernels_.setup().wishes.steps == StepWish::kWhole;
  if (args.longest > (wanted ? kTokenLongest : token_longest(args.tokens)))
    return Decoded::kNothing;
  args.eps = decoder.eps;
  std::vector<FewTokensLayer> table;
  FewTokensRopes ropes = {};
  for (const DecoderLayer& layer : layers) {
    const std::optional<FewTokensLayer> made = few_tokens_layer(layer, batch, args, ropes);
    if (!made) return Decoded::kNothing;
    table.push_back(*made);
    args.count = static_cast<int32_t>(table.size());
  }
  args.top_k = decoder.top_k;
  if (!few_tokens_fit(args) || !few_tokens_rooms(args)) return Decoded::kNothing;
  args.dense = values(layers.back().result.branch, {args.tokens, args.hidden}, "dense");
  args.sparse = values(layers.back().result.sparse, {args.tokens, args.hidden}, "sparse");
  args.x = values(stream.x, {args.tokens, args.hidden}, "x");
  args.positions = arena_.find(batch.positions, "positions");
  args.sequence_of_row = arena_.find(batch.sequence_of_row, "sequence_of_row");
  const LmHead& head = decoder.head;
  const bool head_fits = plain(head.w, head.w.rows, args.hidden) &&
                         linear_weights(head.w).form == ProductForm::kByTokens;
  if (!few_tokens_tables(layers, std::move(table), head_fits ? &head.w : nullptr, args))
    return Decoded::kNothing;
  if (head_fits && !head.logits.empty()) add_head(head, args);
  if (!add_embedding(decoder.embedding, args)) {
    const TokenEmbedding& e = decoder.embedding;
    embed(stream.x, e.table, e.ids, e.scale);
  }
  few_tokens(stream_, args);
  if (args.head.logits != nullptr) return Decoded::kLogits;
  stream.pending = layers.back().result;
  return Decoded::kLayers;
}

}  // namespace facet::cuda
