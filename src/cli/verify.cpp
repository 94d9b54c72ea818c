#include "verify/verify.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/core.h>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/cpu_weights.h"
#include "cli/ids.h"
#include "cli/kernel_lines.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "cli/verify_output.h"
#include "kernels/ref/ref_backend.h"
#include "tokenizer/tokenizer.h"
#include "verify/plant.h"

namespace facet::cli {
namespace {

constexpr const char* kFooter =
    R"(Each part of the model (embedding, attention, router, feed-forward, norm, logits) gets the
reference's input, so that a fault shows in the layer that makes it and errors do not add up. The ids run
twice side by side: from position 0, and after a context of random keys and values, the same for both
backends, that is longer than the sliding window. The last two ids of each run go one by one, as decodes.

The columns, each for its worst row:
  relative L2   |fast - ref| / |ref| of the residual stream after the layer's halves
  largest       largest absolute difference of a value
  attention, feed-forward
                |fast - ref| over what that half adds to the stream
  experts       rows with the reference's expert set / rows; "tied" rows differ only in experts whose
                probabilities are equal as far as the tolerance can tell, which is no fault

With --kv-dtype f32 the cpu backend computes in float32 as the reference does and must agree to 1e-5 (2e-5 of
what a half adds, 1e-4 in routing); with a narrower cache, and on cuda, to 1e-2 (2e-2, 2e-2), which small faults pass.

The reference is slow: some minutes on a model of 26 billion parameters with the default 8 tokens.
Exit code: 0 the backends agree, 70 they differ (stderr names the first fault) or a planted fault went unseen.)";

struct Options {
  ModelOptions model;
  std::string ids;
  std::string text;
  bool ids_given = false;  // an empty list is given too, and refused
  bool text_given = false;
  int32_t tokens = 8;
  std::optional<int32_t> context;
  std::string plant;
  bool json = false;
};

/// <bos> and ids spread over the vocabulary, the same each time.
std::vector<int32_t> spread_ids(const gemma4::Gemma4Config& config, int32_t count) {
  constexpr int64_t kStride = 7919;  // a prime, coprime to any vocabulary that is no multiple of it
  std::vector<int32_t> ids = {bos_id(config)};
  for (int64_t i = 1; std::ssize(ids) < count; ++i) {
    const auto id = static_cast<int32_t>(i * kStride % config.vocab_size);
    if (!config.is_placeholder(TokenId{id})) ids.push_back(id);
  }
  return ids;
}

std::vector<int32_t> prompt_of(const Options& options,
                               const std::string& folder,
                               const gemma4::Gemma4Config& config) {
  if (options.ids_given) {
    std::vector<int32_t> ids = parse_ids(options.ids);
    check_ids(ids, config.vocab_size);
    return ids;
  }
  if (!options.text_given) return spread_ids(config, options.tokens);
  const Tokenizer tokenizer = Tokenizer::load(folder + "/tokenizer.json");
  tokenizer.check_fits(config.vocab_size);
  std::vector<int32_t> ids = {bos_id(config)};
  for (const TokenId id : tokenizer.encode(options.text)) ids.push_back(to_index(id));
  return ids;
}

/// Past the widest window, by more than a page, so that the cache has given pages back.
int32_t context_past_windows(const gemma4::Gemma4Config& config) {
  int32_t widest = 0;
  for (const gemma4::LayerConfig& layer : config.layers) widest = std::max(widest, layer.window);
  return widest + kPageSize + 1;
}

VerifyPlan plan_of(const Options& options,
                   const std::string& folder,
                   const gemma4::Gemma4Config& config) {
  VerifyPlan plan;
  plan.ids = prompt_of(options, folder, config);
  const auto count = static_cast<int32_t>(plan.ids.size());
  const int32_t most = config.max_position_embeddings;
  if (count > most) {
    throw Error(ErrorCode::kBadInput,
                fmt::format("{} tokens, the model's context is {}", count, most));
  }
  if (options.context && *options.context > most - count) {
    throw Error(ErrorCode::kUsage, fmt::format("--context {}: wanted at most {} (the model's "
                                               "context is {}, the tokens take {})",
                                               *options.context, most - count, most, count));
  }
  plan.context = options.context.value_or(std::min(context_past_windows(config), most - count));
  plan.chunk = std::min(options.model.prefill_chunk, count);
  plan.page_size = kPageSize;
  return plan;
}

/// The checkpoint that both sides view, and the fast side's own copy of what a plant may change.
struct Sides {
  explicit Sides(const std::string& folder)
      : open(folder), fast_config(open.config), fast_weights(open.weights) {}

  OpenModel open;
  gemma4::Gemma4Config fast_config;
  gemma4::Weights fast_weights;
};

VerifyReport compare_backends(Sides& sides, Backend& fast_backend, const VerifyPlan& plan) {
  const auto ref_backend = ref::make_ref_backend();
  const gemma4::StepLimits limits = {2 * plan.chunk, 2 * plan.chunk};
  const Activation activation = sides.open.activation;
  gemma4::Gemma4Model ref(std::move(sides.open.config), std::move(sides.open.weights), activation,
                          *ref_backend, limits);
  gemma4::Gemma4Model fast(std::move(sides.fast_config), std::move(sides.fast_weights), activation,
                           fast_backend, limits);
  Progress progress("ref", reference_layers(ref.config(), plan), Progress::Unit::kLayers);
  VerifyReport report = run_verify({ref, *ref_backend}, {fast, fast_backend}, plan,
                                   [&](int64_t done) { progress.update(done); });
  progress.finish();
  return report;
}

void verify(const Options& options) {
  if (options.model.backend == "ref") {
    throw Error(
        ErrorCode::kUsage,
        "--backend ref: the reference cannot be held against itself, wanted auto, cpu or cuda");
  }
  if (options.model.cpu_weights != "exact") {
    throw Error(ErrorCode::kUsage,
                fmt::format("--cpu-weights {}: verify holds the checkpoint's own weights against "
                            "the reference, wanted exact",
                            options.model.cpu_weights));
  }
  copy_format(options.model);  // refuses flags that contradict
  const std::string folder = find_model(options.model.model);
  std::unique_ptr<Backend> fast = make_backend(options.model);
  Sides sides(folder);
  VerifyPlan plan = plan_of(options, folder, sides.open.config);
  plan.kv_dtype = kv_dtype(options.model, sides.open.quant);
  if (computes_on_cuda(options.model)) {
    check_gpu_model(gpu_setup(options.model), sides.open.config, sides.open.weights);
    log_kernels(kernel_lines(sides.open.config, sides.open.weights, sides.open.activation,
                             plan.kv_dtype, *fast));
  }
  // CUDA rounds what enters a product to BF16.
  const bool exact = plan.kv_dtype == DType::kF32 && !computes_on_cuda(options.model);
  const Tolerance& tolerance = exact ? kExact : kRounded;
  plan.tie = tolerance.routing;

  std::string planted;
  std::unique_ptr<Backend> wrapped;
  if (const auto plant = find_plant(options.plant)) {
    const auto last = plan.context + static_cast<int32_t>(plan.ids.size()) - 1;
    planted =
        plant_fault(*plant, {sides.fast_config, sides.fast_weights, sides.open.activation, last});
    if (plant == Plant::kErfGelu) wrapped = make_erf_gelu_backend(*fast);
  }
  log_info("verify", "fast=\"{}\" kv={} tokens={} context={}", fast->describe(),
           to_string(plan.kv_dtype), plan.ids.size(), plan.context);
  const VerifyReport report = compare_backends(sides, wrapped ? *wrapped : *fast, plan);
  const std::vector<Fault> faults = find_faults(report, tolerance);
  const VerifyAnswer answer = {report, faults, tolerance, std::string(fast->describe()), planted};
  options.json ? print_verify_json(answer) : print_verify_table(answer);
  if (faults.empty() && planted.empty()) return;
  if (faults.empty()) {
    throw Error(ErrorCode::kInternal, fmt::format("the planted fault went unseen ({})", planted),
                "verify");
  }
  throw Error(ErrorCode::kInternal,
              fmt::format("{} differs from ref, first in {}: {}", fast->describe(),
                          faults.front().where, faults.front().what),
              "verify");
}

}  // namespace

void add_verify(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  options->model.kv_dtype = "f32";
  options->model.prefill_chunk = 16;
  CLI::App* command = app.add_subcommand(
      "verify", "Hold the fast backend against the reference, layer by layer, on this machine");
  add_model_options(*command, options->model);
  CLI::Option* ids =
      command->add_option("--ids", options->ids, "Token ids to run, separated by commas");
  CLI::Option* text =
      command->add_option("--text", options->text, "A text to run, <bos> before it");
  CLI::Option* tokens =
      command
          ->add_option("--tokens", options->tokens, "Without --ids and --text: how many ids to run")
          ->check(CLI::Range(1, 65536))
          ->capture_default_str();
  ids->excludes(text)->excludes(tokens);
  text->excludes(tokens);
  command
      ->add_option(
          "--context", options->context,
          "Random positions before the second run; 0: no second run; if not given: 65 more "
          "than the widest sliding window")
      ->check(CLI::Range(0, 1 << 24));
  command->add_option("--plant", options->plant, "Plant a fault, which verify must then find")
      ->check(CLI::IsMember(plant_names()));
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(kFooter);
  command->callback([options, ids, text, &chosen] {
    options->ids_given = ids->count() > 0;
    options->text_given = text->count() > 0;
    chosen = [options] { verify(*options); };
  });
}

}  // namespace facet::cli
