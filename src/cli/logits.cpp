#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/core.h>
#include <map>
#include <memory>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "cli/commands.h"
#include "cli/ids.h"
#include "cli/session.h"

namespace facet::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string ids;
  std::string out;
  bool hidden = false;
  bool router = false;
  int32_t chunk = 0;
};

/// Gathers tensors row by row; each has [T, width] values, or [T, width] ids.
class Recorder final : public StepObserver {
 public:
  explicit Recorder(const Options& options) : options_(options) {}

  void hidden(int32_t layer, TensorView x) override {
    if (options_.hidden) append(floats_[fmt::format("hidden_{:05}", layer)], x.as<float>());
  }
  void routing(int32_t layer, const Routing& routing) override {
    if (!options_.router) return;
    append(floats_[fmt::format("router_weight_{}", layer)], routing.weights.as<float>());
    std::vector<int64_t>& ids = ids_[fmt::format("router_index_{}", layer)];
    const auto experts = routing.experts.as<int32_t>();
    ids.insert(ids.end(), experts.begin(), experts.end());
  }
  void per_layer_inputs(TensorView ple) override {
    if (options_.hidden) append(floats_["ple"], ple.as<float>());
  }
  void logits(TensorView rows) { append(floats_["logits"], rows.as<float>()); }

  /// Writes what was gathered, named and shaped as the reference goldens are.
  void write(const std::vector<int32_t>& prompt, const gemma4::Gemma4Config& config) {
    const auto rows = std::ssize(prompt);
    const int64_t layers = config.num_hidden_layers;
    ids_["prompt_ids"].assign(prompt.begin(), prompt.end());
    if (options_.hidden) join_hidden(layers);
    SafetensorsWriter writer;
    for (const auto& [name, values] : floats_) {
      const int64_t width = std::ssize(values) / rows;
      Shape shape{rows, width};
      if (name == "hidden") shape = Shape{layers + 1, rows, width / (layers + 1)};
      if (name == "ple") shape = Shape{rows, layers, width / layers};
      writer.declare(name, DType::kF32, shape);
    }
    for (const auto& [name, ids] : ids_) {
      const bool flat = name == "prompt_ids";
      writer.declare(name, DType::kI64, flat ? Shape{rows} : Shape{rows, std::ssize(ids) / rows});
    }
    writer.write(options_.out,
                 [&](const SafetensorsWriter::Tensor& tensor, const SafetensorsWriter::Sink& sink) {
                   if (const auto found = floats_.find(tensor.name); found != floats_.end()) {
                     sink(std::as_bytes(std::span(found->second)));
                   } else {
                     sink(std::as_bytes(std::span(ids_.at(tensor.name))));
                   }
                 });
  }

 private:
  static void append(std::vector<float>& to, std::span<const float> from) {
    to.insert(to.end(), from.begin(), from.end());
  }

  void join_hidden(int64_t layers) {
    std::vector<float> all;
    for (int64_t layer = 0; layer <= layers; ++layer) {
      const auto found = floats_.find(fmt::format("hidden_{:05}", layer));
      append(all, found->second);
      floats_.erase(found);
    }
    floats_["hidden"] = std::move(all);
  }

  const Options& options_;
  std::map<std::string, std::vector<float>> floats_;
  std::map<std::string, std::vector<int64_t>> ids_;
};

void logits(Options options) {
  const std::vector<int32_t> prompt = parse_ids(options.ids);
  const auto rows = static_cast<int32_t>(prompt.size());
  if (options.chunk > 0) options.model.prefill_chunk = options.chunk;
  options.model.prefill_chunk = std::max(1, std::min(options.model.prefill_chunk, rows));
  const int32_t chunk = options.model.prefill_chunk;
  Session session(options.model, {.max_logit_rows = chunk, .positions = rows});
  check_ids(prompt, session.config().vocab_size);
  if (rows > session.max_positions()) {
    throw Error(ErrorCode::kBadInput, fmt::format("{} token ids, the model's context is {}", rows,
                                                  session.max_positions()));
  }
  Recorder recorder(options);
  KvCache& cache = session.stepper().cache();
  const CacheSlot slot = cache.open();
  for (int32_t at = 0; at < rows; at += chunk) {
    const auto part = std::span(prompt).subspan(static_cast<size_t>(at),
                                                static_cast<size_t>(std::min(chunk, rows - at)));
    if (!cache.reserve(slot, static_cast<int32_t>(part.size()))) {
      throw Error(ErrorCode::kInternal, "the KV cache is smaller than planned");
    }
    const SequenceStep step = {slot, part, LogitRows::kAll};
    recorder.logits(session.stepper().run({&step, 1}, &recorder));
  }
  recorder.write(prompt, session.config());
}

}  // namespace

void add_logits(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = app.add_subcommand(
      "logits", "Write the logits of every token of a prompt to a safetensors file");
  add_model_options(*command, options->model);
  command->add_option("--ids", options->ids, "The prompt: token ids separated by commas")
      ->required();
  command
      ->add_option("--out", options->out,
                   "The file to write: prompt_ids [T], logits [T, vocab] in float32")
      ->required();
  command->add_flag("--hidden", options->hidden, "Also hidden [L+1, T, H] (and ple [T, L, P])");
  command->add_flag("--router", options->router,
                    "Also router_index_N and router_weight_N [T, top_k]");
  command->add_option("--chunk", options->chunk, "Prompt tokens per step; 0: as --prefill-chunk")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  command->callback([options, &chosen] { chosen = [options] { logits(*options); }; });
}

}  // namespace facet::cli
