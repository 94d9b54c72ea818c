// What the kernels of this backend are and why they run: for people.

#include <fmt/core.h>

#include "kernels/cpu/cpu_backend.h"

namespace facet::cpu {
namespace {

std::string why_isa(Isa isa) {
  const std::string all = list_of(supported_isas());
  if (isa == best_isa())
    return fmt::format("{} is the last of what this machine runs ({})", to_string(isa), all);
  return fmt::format("{} was asked for; this machine runs {}", to_string(isa), all);
}

bool is_plain(WeightFormat format) {
  return format == WeightFormat::kF32 || format == WeightFormat::kF16 ||
         format == WeightFormat::kBF16;
}

/// Why codes are not multiplied as codes.
std::string why_exact(WeightFormat format) {
  if (is_plain(format)) return "sums in float32";
  return fmt::format("{} is decoded to float32 and activations are not rounded: exact",
                     to_string(format));
}

}  // namespace

KernelChoice CpuBackend::linear_kernel(const WeightMatrix& matrix) const {
  const WeightFormat format = matrix.format;
  return {fmt::format("{} {}: decoded in registers for a few tokens, in panels for more",
                      to_string(isa_), to_string(format)),
          fmt::format("{}; {}", why_isa(isa_), why_exact(format))};
}

KernelChoice CpuBackend::experts_kernel(const ExpertWeights& experts,
                                        const Activation& activation) const {
  const WeightFormat format = experts.experts.front().up.format;
  return {fmt::format("{} {}, rows grouped by expert, {}", to_string(isa_), to_string(format),
                      to_string(activation)),
          fmt::format("{}; each expert's weights are read once for all its rows; {}", why_isa(isa_),
                      why_exact(format))};
}

KernelChoice CpuBackend::attention_kernel(const AttentionShape& shape) const {
  return {
      fmt::format("{} over {} pages, parts of 256 positions", to_string(isa_), to_string(shape.kv)),
      fmt::format("{}; parts at fixed positions give the same bits for any chunk of a prompt",
                  why_isa(isa_))};
}

}  // namespace facet::cpu
