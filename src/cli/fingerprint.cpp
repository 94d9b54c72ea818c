#include "cli/fingerprint.h"

#include <array>
#include <filesystem>
#include <fmt/core.h>
#include <span>

#include "base/checksum.h"
#include "base/mapped_file.h"
#include "base/process.h"
#include "commit.h"
#include "kernels/cuda/cuda_backend.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostBytes = int64_t{1} << 28;
/// Beside the tensors: what a prompt's ids and an answer's defaults come from.
constexpr std::array kSmallFiles = {"config.json", "hf_quant_config.json", "generation_config.json",
                                    "tokenizer.json", "chat_template.jinja"};

uint64_t add(uint64_t digest, std::string_view text) {
  return checksum(std::as_bytes(std::span(text)), digest);
}

uint64_t add(uint64_t digest, std::span<const int64_t> numbers) {
  return checksum(std::as_bytes(numbers), digest);
}

/// What is known of a file that was not read.
uint64_t add_file(uint64_t digest, const fs::path& file) {
  const std::array<int64_t, 2> facts = {
      static_cast<int64_t>(fs::file_size(file)),
      static_cast<int64_t>(fs::last_write_time(file).time_since_epoch().count())};
  return add(add(digest, file.filename().string()), facts);
}

/// /proc names the very file that runs, even if another has its name by now.
uint64_t program_digest() {
  const char* running = "/proc/self/exe";
  std::error_code ignored;
  return checksum(MappedFile(fs::exists(running, ignored) ? running : program_file()).bytes());
}

}  // namespace

uint64_t checkpoint_digest(const Checkpoint& checkpoint, const TensorSums& sums) {
  const fs::path folder = checkpoint.folder();
  uint64_t digest = 0;
  for (const char* name : kSmallFiles) {
    digest = add(digest, name);
    if (fs::exists(folder / name)) digest = add(digest, read_file(folder / name, kMostBytes));
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    const StoredTensor& tensor = *checkpoint.tensors()[i];
    digest = add(digest, fmt::format("{} {} {}", tensor.name, to_string(tensor.dtype),
                                     to_string(tensor.shape)));
    if (sums[i]) {
      const std::array<int64_t, 1> sum = {static_cast<int64_t>(*sums[i])};
      digest = add(digest, sum);
    } else {
      digest = add_file(digest, folder / std::string(tensor.file));
    }
  }
  return digest;
}

std::string numeric_mode(const ServeOptions& options, DType kv_dtype, int32_t max_model_len) {
  std::string computes = options.model.backend;
  if (computes_on_cuda(options.model)) {
    // W4A4 gives other results, and what auto means depends on the GPU.
    computes = fmt::format("cuda {} {} {} {} {}", to_string(cuda::gpu_setup().device),
                           options.model.nvfp4_path, options.model.expert_kernel,
                           options.model.linear_kernel, options.model.attention_kernel);
  } else if (computes != "ref") {
    computes =
        fmt::format("cpu {}", to_string(cpu_options(options.model).isa.value_or(cpu::best_isa())));
  }
  std::string budgets;
  for (const auto& [level, tokens] : options.settings.effort_budgets)
    budgets += fmt::format(" {}={}", level, tokens);
  return fmt::format(
      "{}, weights {}, cache {}; template {}{}, thinking {}{}, generation config {}, tool schema "
      "{}, "
      "{} tokens",
      computes, options.model.cpu_weights, to_string(kv_dtype), options.chat_template,
      options.template_exact ? " exact" : "", options.thinking, budgets, options.generation_config,
      options.tool_schema ? "always" : "where strict", max_model_len);
}

std::string fingerprint_of(uint64_t digest, const std::string& mode) {
  const auto short_of = [](uint64_t sum) { return sum & 0xFFFFFFFFU; };
  return fmt::format("fp_{}-{:08x}_{:016x}_{:08x}", FACET_COMMIT, short_of(program_digest()),
                     digest, short_of(add(0, mode)));
}

}  // namespace facet::cli
