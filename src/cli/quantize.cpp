#include "model/gemma4/quantize.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fmt/core.h>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/partial_file.h"
#include "cli/commands.h"
#include "cli/model_text.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "model/gemma4/calibrate.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostTextBytes = int64_t{1} << 32;
constexpr const char* kNvfp4 = "nvfp4";
constexpr const char* kFp8 = "fp8-dynamic";
constexpr int32_t kWindow = 512;  // tokens of calibration text at a time, <bos> included

struct Options {
  std::string in;
  std::string out;
  std::string format;
  std::string calibrate;
  int64_t calibrate_tokens = 65536;
  ModelOptions model;  // how calibration runs
};

/// What goes into each matrix while the model reads a text.
gemma4::InputRanges calibrate(const OpenModel& open, const Options& options) {
  const Tokenizer tokenizer = load_tokenizer(options.in);
  tokenizer.check_fits(open.config.vocab_size);
  const std::string text = read_file(options.calibrate, kMostTextBytes);
  std::vector<int32_t> ids;
  for (const TokenId id : tokenizer.encode(text)) ids.push_back(to_index(id));
  if (ids.empty()) throw Error(ErrorCode::kBadInput, "the text is empty", options.calibrate);
  if (std::ssize(ids) > options.calibrate_tokens)
    ids.resize(static_cast<size_t>(options.calibrate_tokens));

  gemma4::InputRanges ranges;
  const std::unique_ptr<Backend> backend = make_backend(options.model);
  const std::unique_ptr<Backend> observer = gemma4::make_observing_backend(*backend, ranges);
  gemma4::Gemma4Model model(open.config, open.weights, open.activation, *observer, {kWindow, 1});
  const std::vector<KvGroupSpec> groups = model.kv_groups(kWindow, DType::kF32);
  KvCache cache(groups, std::vector<int32_t>(groups.size(), 2), observer->allocator());
  Stepper stepper(model, cache);
  Progress progress("calibrate", std::ssize(ids), Progress::Unit::kTokens);
  for (size_t at = 0; at < ids.size(); at += kWindow - 1) {
    std::vector<int32_t> window = {bos_id(open.config)};
    const auto part = std::span(ids).subspan(at, std::min<size_t>(kWindow - 1, ids.size() - at));
    window.insert(window.end(), part.begin(), part.end());
    const CacheSlot slot = cache.open();
    if (!cache.reserve(slot, static_cast<int32_t>(window.size()))) {
      throw Error(ErrorCode::kInternal, "the KV cache is smaller than planned");
    }
    const SequenceStep step = {slot, window, LogitRows::kNone};
    stepper.run({&step, 1});
    cache.close(slot);
    progress.update(static_cast<int64_t>(at + part.size()));
  }
  progress.finish();
  return ranges;
}

/// Everything that is neither weights nor rewritten: tokenizer, generation config, chat template, …
void copy_other_files(const fs::path& in, const fs::path& out) {
  for (const auto& entry : fs::directory_iterator(in)) {
    const std::string name = entry.path().filename();
    const bool rewritten = name == "config.json" || name == "hf_quant_config.json" ||
                           name == "model.safetensors.index.json" || name.ends_with(".safetensors");
    const bool describes_model =
        name.ends_with(".json") || name.ends_with(".jinja") || name.ends_with(".model");
    if (entry.is_regular_file() && describes_model && !rewritten) {
      write_file(out / name, read_file(entry.path(), kMostTextBytes));
    }
  }
}

void write_quantized(const OpenModel& open, const Options& options) {
  std::optional<Progress> progress;
  const auto on_bytes = [&](int64_t done, int64_t total) {
    if (!progress) progress.emplace("write", total, Progress::Unit::kBytes);
    progress->update(done);
  };
  gemma4::QuantizeJob job = {open.checkpoint, open.config, open.weights};
  if (options.format == kFp8) {
    gemma4::quantize_to_fp8(job, options.out, on_bytes);
  } else {
    std::optional<gemma4::InputRanges> ranges;
    if (!options.calibrate.empty()) {
      ranges = calibrate(open, options);
      job.ranges = &*ranges;
    } else {
      log_info("quantize", "no --calibrate text: no input scales, the algorithm is W4A16_NVFP4");
    }
    gemma4::quantize_to_nvfp4(job, options.out, on_bytes);
  }
  if (progress) progress->finish();
}

void quantize(const Options& options) {
  if (options.format == kFp8 && !options.calibrate.empty()) {
    throw Error(
        ErrorCode::kUsage,
        "--calibrate goes with --format nvfp4; fp8-dynamic scales activations as they come");
  }
  const std::string in = find_model(options.in);
  const OpenModel open(in);
  if (open.quant.quantized()) {
    throw Error(
        ErrorCode::kBadCheckpoint,
        fmt::format("is quantised already ({}), wanted a BF16 checkpoint", open.quant.describe()),
        in);
  }
  std::error_code fault;
  fs::create_directories(options.out, fault);
  if (fault) throw Error(ErrorCode::kIo, fault.message(), options.out);
  if (!fs::is_empty(options.out, fault) || fault) {
    throw Error(ErrorCode::kUsage,
                fault ? fault.message() : "OUT holds files already, wanted an empty folder",
                options.out);
  }
  // config.json comes last: until then the folder is no model that anything would load.
  copy_other_files(in, options.out);
  write_quantized(open, options);
  const OpenModel written(options.out);  // what was written must load
  fmt::print("{}: {}, {} text tensors\n", options.out, written.quant.describe(),
             written.weights.text_tensors);
}

}  // namespace

void add_quantize(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = app.add_subcommand(
      "quantize", "Write a BF16 model with 4-bit experts or 8-bit weights, as they are published");
  command->add_option("IN", options->in, "A BF16 model: a folder, or the name of a bundled model")
      ->required();
  command->add_option("OUT", options->out, "The folder to write")->required();
  command
      ->add_option("--format", options->format,
                   "nvfp4: ModelOpt NVFP4 experts (dense MLPs if there are none); fp8-dynamic: "
                   "compressed-tensors FP8 for every Linear but router and head")
      ->required()
      ->check(CLI::IsMember({kNvfp4, kFp8}));
  command
      ->add_option("--calibrate", options->calibrate,
                   "A text that sets input scales (nvfp4 only, for W4A4 hardware)")
      ->check(CLI::ExistingFile);
  command->add_option("--calibrate-tokens", options->calibrate_tokens, "Most tokens of it to read")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  command
      ->add_option("--threads", options->model.threads, "Threads for calibration; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->callback([options, &chosen] { chosen = [options] { quantize(*options); }; });
}

}  // namespace facet::cli
