#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fmt/core.h>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/process.h"
#include "base/text.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

/// Where bundled models may lie: FACET_MODELS, beside the program, in the share folder of an
/// installation, or at the root of the tree the program was built in.
std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  if (const char* chosen = std::getenv("FACET_MODELS"); chosen != nullptr)
    folders.emplace_back(chosen);
  if (const std::string self = program_file(); !self.empty()) {
    const fs::path bin = fs::path(self).parent_path();
    folders.push_back(bin / "models");
    folders.push_back(bin / ".." / "share" / "facet" / "models");
    folders.push_back(bin / ".." / ".." / ".." / "models");
  }
  return folders;
}

std::string bundled_models() {
  std::string names;
  for (const fs::path& folder : model_folders()) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (!fs::exists(entry.path() / "config.json", ignored)) continue;
      names += (names.empty() ? "" : ", ") + entry.path().filename().string();
    }
    if (!names.empty()) break;
  }
  return names.empty() ? "none found" : names;
}

template <typename Names>
CLI::Option* add_choice(CLI::App& command,
                        std::string_view name,
                        std::string& value,
                        const Names& names,
                        const char* text) {
  const std::vector<std::string> all(names.begin(), names.end());
  return command.add_option(std::string(name), value, text)
      ->check(CLI::IsMember(all))
      ->capture_default_str();
}

void add_kernel_options(CLI::App& command, ModelOptions& options) {
  add_choice(command, kPathOption, options.nvfp4_path, kPathNames,
             "On a GPU, products with NVFP4 weights. w4a16: decoded to BF16, exact. w4a4: on FP4 "
             "tensor cores, activations are rounded to FP4 too; auto: w4a4 where GPU, checkpoint "
             "and build have it");
  add_choice(command, kExpertOption, options.expert_kernel, kFormNames,
             "On a GPU, kernels of the experts. stream: weights are streamed for a few tokens at a "
             "time; tiled: many tokens at once; plain: slow, takes everything; auto: by the number "
             "of tokens (facet info says why)");
  add_choice(command, kLinearOption, options.linear_kernel, kFormNames,
             "On a GPU, kernels of all other products, as --expert-kernel");
  add_choice(command, kAttentionOption, options.attention_kernel, kAttentionNames,
             "On a GPU, kernels of attention. tiles: on tensor cores; plain: slow, takes "
             "everything; auto: tiles where they fit");
  add_choice(
      command, kStepOption, options.step_kernel, kStepNames,
      "On a GPU, steps of one token each of up to eight sequences. auto: all layers in one launch "
      "where GPU, model and context allow it and that is faster; whole: even where it is not; "
      "apart: a launch for each part of a layer. The results are the same");
}

}  // namespace

KernelWishes kernel_wishes(const ModelOptions& options, bool on_gpu) {
  // Their values were checked when they were parsed.
  const KernelWishes wishes = {find_path_wish(options.nvfp4_path).value(),
                               find_form_wish(options.expert_kernel).value(),
                               find_form_wish(options.linear_kernel).value(),
                               find_attention_wish(options.attention_kernel).value(),
                               find_step_wish(options.step_kernel).value()};
  if (on_gpu) return wishes;
  const std::array<std::pair<std::string_view, std::string_view>, 5> given = {
      {{kPathOption, options.nvfp4_path},
       {kExpertOption, options.expert_kernel},
       {kLinearOption, options.linear_kernel},
       {kAttentionOption, options.attention_kernel},
       {kStepOption, options.step_kernel}}};
  for (const auto& [option, value] : given) {
    if (value == "auto") continue;
    throw Error(ErrorCode::kUsage, "is for a GPU, and none computes here (see --backend)",
                fmt::format("{} {}", option, value));
  }
  return wishes;
}

std::string find_model(const std::string& model) {
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) return model;
  const bool is_name = !model.empty() && model.find('/') == std::string::npos && model != "..";
  if (is_name) {
    for (const fs::path& folder : model_folders()) {
      if (fs::exists(folder / model / "config.json", ignored))
        return (folder / model).lexically_normal();
    }
  }
  throw Error(ErrorCode::kUsage,
              fmt::format("MODEL '{}' is neither a folder nor a bundled model ({})",
                          printable(model), bundled_models()));
}

void add_model_argument(CLI::App& command, std::string& model) {
  command.add_option("MODEL", model, "A model folder, or the name of a bundled model (fable)")
      ->required();
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  add_model_argument(command, options.model);
  command.add_option("--backend", options.backend, "What computes")
      ->check(CLI::IsMember({"auto", "cpu", "ref", "cuda"}))
      ->capture_default_str();
  command
      .add_option("--kv-dtype", options.kv_dtype,
                  "Precision of the KV cache; auto: as the checkpoint says")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "fp8"}))
      ->capture_default_str();
  command.add_option("--threads", options.threads, "Threads of the cpu backend; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command
      .add_option("--cpu-isa", options.cpu_isa,
                  "Instruction set of the cpu backend (see facet info)")
      ->capture_default_str();
  command
      .add_option("--cpu-weights", options.cpu_weights,
                  "Weights of the cpu backend. exact: as stored, in the mapped files. copied: BF16 "
                  "matrices are copied into large pages of memory at load; as exact, faster, and "
                  "that much more memory. nvfp4, int8: BF16, F16 and F32 matrices are copied into "
                  "4 or 8 bits; faster still, and lossy (docs/quality.md)")
      ->check(CLI::IsMember({"exact", "copied", "nvfp4", "int8"}))
      ->capture_default_str();
  command.add_option(
      "--cpu-weights-cache", options.cpu_weights_cache,
      "A file that keeps the nvfp4 or int8 copies for the next start; made if it is not "
      "there");
  add_kernel_options(command, options);
  command.add_option("--prefill-chunk", options.prefill_chunk, "Prompt tokens per step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

}  // namespace facet::cli
