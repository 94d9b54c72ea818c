#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/kernel_choice.h"
#include "tensor/dtype.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's own name
class App;
}

namespace facet::cli {

/// The options that every command with a model has.
struct ModelOptions {
  std::string model;                  ///< a folder, or the name of a bundled model
  std::string backend = "auto";       ///< auto, cpu, ref, cuda
  std::string kv_dtype = "auto";      ///< auto, f32, bf16, fp8
  int32_t threads = 0;                ///< 0: one per core
  std::string cpu_isa = "auto";       ///< auto, or a name that `info` lists
  std::string cpu_weights = "exact";  ///< exact, copied, nvfp4, int8: lossy copies made at load
  std::string cpu_weights_cache;      ///< file that keeps them; empty: none
  int32_t prefill_chunk = 256;        ///< rows per prefill step
  // Of the cuda backend (kernels/kernel_choice.h):
  std::string nvfp4_path = "auto";
  std::string expert_kernel = "auto";
  std::string linear_kernel = "auto";
  std::string attention_kernel = "auto";
  std::string step_kernel = "auto";
};

/// Declares MODEL alone.
void add_model_argument(CLI::App& command, std::string& model);
/// Declares MODEL and the options above.
void add_model_options(CLI::App& command, ModelOptions& options);

/// What was asked of kernels. Throws Error{kUsage} if something was and no GPU computes
/// (`on_gpu`).
KernelWishes kernel_wishes(const ModelOptions& options, bool on_gpu);

/// The folder of MODEL: itself if it is a folder, else models/MODEL beside the program's tree.
/// Throws Error{kUsage} that lists the bundled models.
std::string find_model(const std::string& model);

}  // namespace facet::cli
