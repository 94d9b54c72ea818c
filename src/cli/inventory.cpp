#include "cli/inventory.h"

#include <algorithm>
#include <sys/sysinfo.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/ref/ref_backend.h"

namespace facet::cli {
namespace {

constexpr const char* kExperts = "experts";

int64_t machine_memory() {
  struct sysinfo memory {};
  return sysinfo(&memory) == 0 ? static_cast<int64_t>(memory.totalram) * memory.mem_unit : 0;
}

bool same_matrix(const WeightMatrix& a, const WeightMatrix& b) {
  return a.data == b.data && a.format == b.format;
}

}  // namespace

Inventory::Inventory(const gemma4::Gemma4Config& config, const gemma4::Weights& w) {
  for (const gemma4::LayerWeights& layer : w.layers) {
    const gemma4::AttentionWeights& a = layer.self_attn;
    for (const WeightMatrix* m : {&a.q_proj, &a.k_proj, &a.o_proj}) add("attention", *m, 1.0);
    if (!same_matrix(a.v_proj, a.k_proj)) add("attention", a.v_proj, 1.0);
    for (const WeightMatrix* m : {&layer.mlp.gate_proj, &layer.mlp.up_proj, &layer.mlp.down_proj}) {
      add("dense mlp", *m, 1.0);
    }
    add("router", layer.router.proj, 1.0);
    const double share = layer.experts.empty()
                             ? 0.0
                             : static_cast<double>(config.top_k_experts) / layer.experts.count();
    for (const ExpertMatrices& expert : layer.experts.experts) {
      for (const WeightMatrix* m : {&expert.gate, &expert.up, &expert.down})
        add("experts", *m, share);
    }
    add("per-layer embeddings", layer.per_layer_input_gate, 1.0);
    add("per-layer embeddings", layer.per_layer_projection, 1.0);
  }
  add("per-layer embeddings", w.per_layer_model_projection, 1.0);
  if (w.embed_tokens_per_layer.rows > 0) {
    add("per-layer embeddings", w.embed_tokens_per_layer,
        1.0 / static_cast<double>(w.embed_tokens_per_layer.rows));
  }
  const bool tied = same_matrix(w.lm_head, w.embed_tokens);
  // The head is read whole for each token; the embedding is one row, unless it is the head.
  add("embedding", w.embed_tokens, tied ? 1.0 : 1.0 / static_cast<double>(w.embed_tokens.rows));
  if (!tied) add("head", w.lm_head, 1.0);
}

std::set<WeightFormat> Inventory::linear_formats() const {
  std::set<WeightFormat> formats;
  for (const auto& [name, kind] : kinds_) {
    if (name != kExperts) formats.insert(kind.formats.begin(), kind.formats.end());
  }
  return formats;
}

std::set<WeightFormat> Inventory::expert_formats() const {
  const auto found = kinds_.find(kExperts);
  return found == kinds_.end() ? std::set<WeightFormat>() : found->second.formats;
}

int64_t Inventory::token_bytes() const {
  int64_t sum = 0;
  for (const auto& [name, kind] : kinds_) sum += kind.token_bytes;
  return sum;
}

void Inventory::add(const char* name, const WeightMatrix& matrix, double share) {
  if (matrix.empty()) return;
  ModuleKind& kind = kinds_[name];
  kind.formats.insert(matrix.format);
  kind.bytes += stored_bytes(matrix);
  kind.token_bytes += static_cast<int64_t>(static_cast<double>(stored_bytes(matrix)) * share);
}

MemoryPlan plan_memory(const OpenModel& open, const ModelOptions& options, int64_t context) {
  MemoryPlan plan;
  plan.kv_dtype = kv_dtype(options, open.quant);
  plan.positions = std::min<int64_t>(context, open.config.max_position_embeddings);
  plan.weights = open.weights.text_bytes;
  plan.on_gpu = computes_on_cuda(options);
  plan.machine = plan.on_gpu ? cuda::device_memory().total : machine_memory();
  // Its scratch is reserved, and never touched.
  const auto host = ref::make_ref_backend();  // a device would load the weights
  const gemma4::Gemma4Model model(open.config, open.weights, open.activation, *host,
                                  {options.prefill_chunk, 1});
  plan.scratch = model.scratch_bytes();
  for (const KvGroupSpec& group : model.kv_groups(kPageSize, plan.kv_dtype)) {
    const auto bytes = [&](Rewinding rewinding) {
      return KvCache::page_bytes(group) *
             pages_of_sequence(group, plan.positions, options.prefill_chunk, rewinding);
    };
    plan.cache += bytes(Rewinding::kYes);
    plan.kept += bytes(Rewinding::kYes) - bytes(Rewinding::kNo);
    int64_t& position = group.window > 0 ? plan.sliding_position : plan.full_position;
    position += KvCache::page_bytes(group) / kPageSize;
  }
  // Layers that share another's keys and values read them as well.
  for (const gemma4::LayerConfig& layer : open.config.layers) {
    const int64_t seen =
        layer.window > 0 ? std::min<int64_t>(plan.positions, layer.window) : plan.positions;
    plan.token_cache_bytes += seen * 2 * layer.kv_size() * bits_of(plan.kv_dtype) / 8;
  }
  return plan;
}

}  // namespace facet::cli
