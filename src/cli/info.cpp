#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/core.h>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/cpu_weights.h"
#include "cli/inventory.h"
#include "cli/kernel_lines.h"
#include "cli/options.h"
#include "cli/session.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cuda/cuda_backend.h"

namespace facet::cli {
namespace {

struct Options {
  ModelOptions model;
  int64_t context = 8192;
  std::string gpu;
  bool json = false;
};

std::string joined(const std::set<WeightFormat>& formats) {
  std::string text;
  for (const WeightFormat format : formats)
    text += (text.empty() ? "" : "+") + std::string(to_string(format));
  return text;
}

/// What lies in the files, and what would be read: they differ with --cpu-weights.
struct Inventories {
  Inventory stored;
  Inventory read;
};

/// What computes, and how.
struct Kernels {
  std::string device;
  std::vector<KernelLine> lines;
};

void print_json(const OpenModel& open,
                const Inventories& inventories,
                const Kernels& kernels,
                const MemoryPlan& plan,
                const std::optional<CpuWeightsPlan>& copies) {
  boost::json::object kinds;
  for (const auto& [name, kind] : inventories.stored.kinds()) {
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
      {"bytes_per_decoded_token", inventories.read.token_bytes()},
      {"kv_bytes_per_decoded_token", plan.token_cache_bytes},
      {"kv_dtype", to_string(plan.kv_dtype)},
      {"kv_bytes_per_position", {{"sliding", plan.sliding_position}, {"full", plan.full_position}}},
      {"memory",
       {{"positions", plan.positions},
        {"weights_mapped_bytes", plan.weights},
        {"kv_cache_bytes", plan.cache},
        {"kv_cache_kept_bytes", plan.kept},
        {"activation_bytes", plan.scratch},
        {"machine_bytes", plan.machine}}},
      {"modules", kinds},
      {"backend", kernels.device},
      {"kernels", kernels_json(kernels.lines)},
  };
  if (copies) {
    all["cpu_weights"] = {{"format", to_string(copies->format)},
                          {"matrices", copies->matrices},
                          {"bytes_before", copies->from_bytes},
                          {"bytes", copies->bytes}};
  }
  fmt::print("{}\n", boost::json::serialize(all));
}

void print_plan(const Inventory& inventory, const MemoryPlan& plan, int64_t copies) {
  fmt::print("decoded token     reads {} of weights, and {} of KV cache at position {}\n",
             human_bytes(inventory.token_bytes()), human_bytes(plan.token_cache_bytes),
             plan.positions);
  fmt::print("KV cache          {}: {} a position in the sliding layers, {} in the full ones\n",
             to_string(plan.kv_dtype), human_bytes(plan.sliding_position),
             human_bytes(plan.full_position));
  fmt::print("memory            for one sequence of {} positions (--context):\n", plan.positions);
  fmt::print("  {:<22}{:>10}  {}\n", "weights", human_bytes(plan.weights),
             plan.on_gpu ? "copied to the GPU at load"
                         : "mapped: shared with other processes, dropped and read again if memory "
                           "is short");
  fmt::print("  {:<22}{:>10}  of which {} let a chat go back to its last prompt\n", "KV cache",
             human_bytes(plan.cache), human_bytes(plan.kept));
  fmt::print("  {:<22}{:>10}  --prefill-chunk decides\n", "activations", human_bytes(plan.scratch));
  if (plan.machine == 0) return;
  const bool fits = plan.weights + plan.allocated() + copies <= plan.machine;
  const char* short_of = plan.on_gpu ? "too little: a shorter --context needs less"
                                     : "weights are read from disk again and again: slow";
  fmt::print("  {:<22}{:>10}  {}\n", plan.on_gpu ? "the GPU has" : "this machine has",
             human_bytes(plan.machine), fits ? "all of it fits" : short_of);
}

void print_text(const OpenModel& open,
                const Inventories& inventories,
                const Kernels& kernels,
                const MemoryPlan& plan,
                const std::optional<CpuWeightsPlan>& copies) {
  const gemma4::Gemma4Config& c = open.config;
  fmt::print("architecture      {}, {} layers, hidden {}, vocabulary {}\n",
             printable(c.architecture), c.num_hidden_layers, c.hidden_size, c.vocab_size);
  if (c.num_experts > 0) {
    fmt::print("experts           {} a layer, {} used per token, {} wide\n", c.num_experts,
               c.top_k_experts, c.moe_intermediate_size);
  }
  fmt::print("context           {} positions, sliding window {}\n", c.max_position_embeddings,
             c.sliding_window);
  fmt::print("quantisation      {}\n", open.quant.describe());
  for (const auto& [name, kind] : inventories.stored.kinds()) {
    fmt::print("  {:<22}{:<12}{:>10} on disk {:>10} per token\n", name, joined(kind.formats),
               human_bytes(kind.bytes), human_bytes(kind.token_bytes));
  }
  fmt::print("files             {}, {} text tensors of {}\n",
             human_bytes(open.checkpoint.file_bytes()), open.weights.text_tensors,
             human_bytes(open.weights.text_bytes));
  print_plan(inventories.read, plan, copies ? copies->bytes : 0);
  if (copies) fmt::print("cpu weights       {} more memory\n", copies->describe());
  fmt::print("kernels           {}\n", kernels.device);
  for (const KernelLine& each : kernels.lines) {
    fmt::print("  {:<22}{}\n  {:<22}because {}\n", each.kind, each.choice.kernel, "",
               each.choice.why);
  }
  fmt::print("cpu instructions  {} (--cpu-isa baseline, avx2 or avx512)\n",
             cpu::list_of(cpu::supported_isas()));
}

/// A GPU that need not be here.
GpuKernels kernels_elsewhere(const Options& options) {
  const auto device = find_compute_capability(options.gpu);
  if (!device) {
    throw Error(ErrorCode::kUsage, "wanted a compute capability, as sm_80, sm_90 or sm_100",
                fmt::format("--gpu '{}'", printable(options.gpu)));
  }
  return GpuKernels(
      {*device, "", cuda::has_fp4_kernel(*device), kernel_wishes(options.model, true)});
}

Kernels chosen_kernels(const OpenModel& open,
                       const gemma4::Weights& read,
                       const Options& options,
                       DType kv) {
  const auto lines_of = [&](const KernelChooser& chooser) {
    return kernel_lines(open.config, read, open.activation, kv, chooser);
  };
  if (!options.gpu.empty()) {
    const GpuKernels elsewhere = kernels_elsewhere(options);
    check_gpu_model(elsewhere.setup(), open.config, read);
    return {
        fmt::format("{}, a GPU that need not be here (--gpu)", to_string(elsewhere.setup().device)),
        lines_of(elsewhere)};
  }
  const std::unique_ptr<Backend> backend = make_backend(options.model);
  if (computes_on_cuda(options.model)) check_gpu_model(gpu_setup(options.model), open.config, read);
  return {std::string(backend->describe()), lines_of(*backend)};
}

void info(const Options& options) {
  OpenModel open(find_model(options.model.model));
  MemoryPlan plan = plan_memory(open, options.model, options.context);
  if (!options.gpu.empty()) {
    plan.on_gpu = true;
    plan.machine = 0;
  }
  gemma4::Weights read = open.weights;
  const std::optional<CpuWeightsPlan> copies = plan_cpu_weights(read, options.model);
  const Inventories inventories = {Inventory(open.config, open.weights),
                                   Inventory(open.config, read)};
  const Kernels kernels = chosen_kernels(open, read, options, plan.kv_dtype);
  if (options.json) {
    print_json(open, inventories, kernels, plan, copies);
  } else {
    print_text(open, inventories, kernels, plan, copies);
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
  command->add_option("--gpu", options->gpu,
                      "Say which kernels a GPU of this compute capability would run, as sm_90 or "
                      "sm_100; none need be here");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options, &chosen] { chosen = [options] { info(*options); }; });
}

}  // namespace facet::cli
