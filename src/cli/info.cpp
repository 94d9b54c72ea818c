#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/core.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/cpu_weights.h"
#include "cli/options.h"
#include "cli/session.h"
#include "kernels/cpu/cpu_isa.h"

namespace facet::cli {
namespace {

struct Options {
  ModelOptions model;
  int64_t context = 8192;
  bool json = false;
};

/// What a kind of module (attention, dense MLP, …) holds.
struct Kind {
  std::set<std::string> formats;
  int64_t bytes = 0;        ///< on disk
  int64_t token_bytes = 0;  ///< read for one decoded token of one stream
};

class Inventory {
 public:
  explicit Inventory(const OpenModel& open) {
    const gemma4::Weights& w = open.weights;
    for (const gemma4::LayerWeights& layer : w.layers) {
      const gemma4::AttentionWeights& a = layer.self_attn;
      for (const WeightMatrix* m : {&a.q_proj, &a.k_proj, &a.o_proj}) add("attention", *m, 1.0);
      if (a.v_proj.data != a.k_proj.data) add("attention", a.v_proj, 1.0);
      for (const WeightMatrix* m :
           {&layer.mlp.gate_proj, &layer.mlp.up_proj, &layer.mlp.down_proj}) {
        add("dense mlp", *m, 1.0);
      }
      add("router", layer.router.proj, 1.0);
      const double share = layer.experts.empty() ? 0.0
                                                 : static_cast<double>(open.config.top_k_experts) /
                                                       layer.experts.count();
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
    const bool tied = w.lm_head.data == w.embed_tokens.data;
    // The head is read whole for each token; the embedding is one row, unless it is the head.
    add("embedding", w.embed_tokens, tied ? 1.0 : 1.0 / static_cast<double>(w.embed_tokens.rows));
    if (!tied) add("head", w.lm_head, 1.0);
  }

  const std::map<std::string, Kind>& kinds() const { return kinds_; }
  int64_t token_bytes() const {
    int64_t sum = 0;
    for (const auto& [name, kind] : kinds_) sum += kind.token_bytes;
    return sum;
  }

 private:
  void add(const char* name, const WeightMatrix& matrix, double share) {
    if (matrix.empty()) return;
    Kind& kind = kinds_[name];
    kind.formats.emplace(to_string(matrix.format));
    kind.bytes += stored_bytes(matrix);
    kind.token_bytes += static_cast<int64_t>(static_cast<double>(stored_bytes(matrix)) * share);
  }

  std::map<std::string, Kind> kinds_;
};

/// Bytes of K and V that one more position adds to the cache, over the layers that keep it.
int64_t kv_bytes(const gemma4::Gemma4Config& config,
                 DType dtype,
                 gemma4::LayerConfig::Attention attention) {
  int64_t values = 0;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const gemma4::LayerConfig& layer = config.layers[i];
    if (layer.kv_donor == static_cast<int32_t>(i) && layer.attention == attention)
      values += int64_t{2} * layer.kv_size();
  }
  return values * bits_of(dtype) / 8;
}

/// Bytes of cache that one sequence of `context` positions holds at most.
int64_t cache_bytes(const OpenModel& open, DType dtype, const Options& options) {
  int64_t bytes = 0;
  std::map<std::pair<int32_t, int32_t>, KvGroupSpec> groups;  // by window and values a position
  for (size_t i = 0; i < open.config.layers.size(); ++i) {
    const gemma4::LayerConfig& layer = open.config.layers[i];
    if (layer.kv_donor != static_cast<int32_t>(i)) continue;
    KvGroupSpec& group = groups[{layer.window, layer.kv_size()}];
    group.layout = {layer.num_kv_heads, layer.head_dim, kPageSize, dtype};
    group.window = layer.window;
    ++group.layers;
  }
  for (const auto& [key, group] : groups) {
    bytes += int64_t{1} * KvCache::pages_for(group, options.context, options.model.prefill_chunk) *
             KvCache::page_bytes(group);
  }
  return bytes;
}

std::string kernels_text(const Backend& backend, const OpenModel& open) {
  std::string text =
      fmt::format("{}; activation {}", backend.describe(), to_string(open.activation));
  return text + "; weights decoded to float32 as they are read, sums in float32";
}

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : "+") + name;
  return text;
}

void print_json(const OpenModel& open,
                const Inventory& inventory,
                const Backend& backend,
                DType dtype,
                int64_t cache,
                const std::optional<CpuWeightsPlan>& lossy) {
  using Attention = gemma4::LayerConfig::Attention;
  boost::json::object kinds;
  for (const auto& [name, kind] : inventory.kinds()) {
    kinds[name] = {{"format", joined(kind.formats)},
                   {"bytes", kind.bytes},
                   {"bytes_per_token", kind.token_bytes}};
  }
  boost::json::object all = {
      {"architecture", open.config.architecture},
      {"quantization", open.quant.describe()},
      {"layers", open.config.num_hidden_layers},
      {"hidden_size", open.config.hidden_size},
      {"vocab_size", open.config.vocab_size},
      {"experts", open.config.num_experts},
      {"top_k", open.config.top_k_experts},
      {"context", open.config.max_position_embeddings},
      {"file_bytes", open.checkpoint.file_bytes()},
      {"text_bytes", open.weights.text_bytes},
      {"text_tensors", open.weights.text_tensors},
      {"bytes_per_decoded_token", inventory.token_bytes()},
      {"kv_dtype", to_string(dtype)},
      {"kv_bytes_per_position",
       {{"sliding", kv_bytes(open.config, dtype, Attention::kSliding)},
        {"full", kv_bytes(open.config, dtype, Attention::kFull)}}},
      {"kv_cache_bytes", cache},
      {"modules", kinds},
      {"kernels", kernels_text(backend, open)},
  };
  if (lossy) {
    all["cpu_weights"] = {{"format", to_string(lossy->format)},
                          {"matrices", lossy->matrices},
                          {"bytes_before", lossy->from_bytes},
                          {"bytes", lossy->bytes}};
  }
  fmt::print("{}\n", boost::json::serialize(all));
}

void print_text(const OpenModel& open,
                const Inventory& inventory,
                const Backend& backend,
                DType dtype,
                int64_t cache,
                int64_t context,
                const std::optional<CpuWeightsPlan>& lossy) {
  using Attention = gemma4::LayerConfig::Attention;
  const gemma4::Gemma4Config& c = open.config;
  fmt::print("architecture      {}, {} layers, hidden {}, vocabulary {}\n",
             printable(c.architecture), c.num_hidden_layers, c.hidden_size, c.vocab_size);
  if (c.num_experts > 0) {
    fmt::print("experts           {} a layer, {} used per token, {} wide\n", c.num_experts,
               c.top_k_experts, c.moe_intermediate_size);
  }
  fmt::print("quantisation      {}\n", open.quant.describe());
  for (const auto& [name, kind] : inventory.kinds()) {
    fmt::print("  {:<22}{:<12}{:>10} on disk {:>10} per token\n", name, joined(kind.formats),
               human_bytes(kind.bytes), human_bytes(kind.token_bytes));
  }
  fmt::print("files             {}, {} text tensors of {}\n",
             human_bytes(open.checkpoint.file_bytes()), open.weights.text_tensors,
             human_bytes(open.weights.text_bytes));
  fmt::print("decoded token     reads {} of weights\n", human_bytes(inventory.token_bytes()));
  fmt::print(
      "KV cache          {}: {} per position in the sliding layers (window {}), {} in the full "
      "ones\n",
      to_string(dtype), human_bytes(kv_bytes(c, dtype, Attention::kSliding)), c.sliding_window,
      human_bytes(kv_bytes(c, dtype, Attention::kFull)));
  fmt::print(
      "memory            {} of weights (mapped, shared with other processes), {} of KV cache for "
      "one "
      "sequence of {} positions (--context)\n",
      human_bytes(open.weights.text_bytes), human_bytes(cache), context);
  if (lossy) fmt::print("cpu weights       {} more memory\n", lossy->describe());
  fmt::print("context           {} positions\n", c.max_position_embeddings);
  fmt::print("kernels           {}\n", kernels_text(backend, open));
  fmt::print("cpu instructions  {} (--cpu-isa baseline, avx2 or avx512)\n",
             cpu::list_of(cpu::supported_isas()));
}

void info(const Options& options) {
  OpenModel open(find_model(options.model.model));
  const std::unique_ptr<Backend> backend = make_backend(options.model);
  const DType dtype = kv_dtype(options.model, open.quant);
  const Inventory inventory(open);
  const int64_t cache = cache_bytes(open, dtype, options);
  const std::optional<CpuWeightsPlan> lossy = plan_cpu_weights(open.weights, options.model);
  if (options.json) {
    print_json(open, inventory, *backend, dtype, cache, lossy);
  } else {
    print_text(open, inventory, *backend, dtype, cache, options.context, lossy);
  }
}

}  // namespace

void add_info(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command =
      app.add_subcommand("info", "What a model is, what it costs and which kernels would run it");
  add_model_options(*command, options->model);
  command
      ->add_option("--context", options->context,
                   "Positions of the sequence that memory is planned for")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options, &chosen] { chosen = [options] { info(*options); }; });
}

}  // namespace facet::cli
