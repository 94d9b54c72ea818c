// Names and descriptions of what kernel_choice.h decides upon.

#include <algorithm>
#include <charconv>
#include <fmt/core.h>

#include "kernels/kernel_choice.h"

namespace facet {
namespace {

template <typename Wish, size_t kCount>
std::optional<Wish> find_wish(const std::array<std::string_view, kCount>& names,
                              std::string_view name) {
  const auto* found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Wish>(found - names.begin());
}

}  // namespace

std::string to_string(ComputeCapability device) {
  return fmt::format("sm_{}{}", device.major, device.minor);
}

std::optional<ComputeCapability> find_compute_capability(std::string_view name) {
  if (name.starts_with("sm")) name.remove_prefix(2);
  if (name.starts_with("_")) name.remove_prefix(1);
  if (name.ends_with("a") || name.ends_with("f")) name.remove_suffix(1);
  const size_t dot = name.find('.');
  if (name.size() < 2 || name.size() > 4) return std::nullopt;
  const std::string digits = std::string(name.substr(0, dot)) +
                             std::string(dot == std::string_view::npos ? "" : name.substr(dot + 1));
  int32_t value = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (fault != std::errc() || end != digits.data() + digits.size() || value < 10 || value > 999)
    return std::nullopt;
  return ComputeCapability{value / 10, value % 10};
}

int32_t shared_memory_of(ComputeCapability device) {
  if (device.major >= 12) return 99 * 1024;
  if (device.major >= 9) return 227 * 1024;
  if (device == ComputeCapability{8, 0} || device == ComputeCapability{8, 7}) return 163 * 1024;
  return device.major == 8 ? 99 * 1024 : 64 * 1024;
}

std::string_view to_string(ProductPath path) {
  switch (path) {
    case ProductPath::kW16:
      return "W16";
    case ProductPath::kW8A16:
      return "W8A16";
    case ProductPath::kW4A16:
      return "W4A16";
    case ProductPath::kW4A4:
      return "W4A4";
  }
  return "?";
}

std::optional<PathWish> find_path_wish(std::string_view name) {
  return find_wish<PathWish>(kPathNames, name);
}
std::optional<FormWish> find_form_wish(std::string_view name) {
  return find_wish<FormWish>(kFormNames, name);
}
std::optional<StepWish> find_step_wish(std::string_view name) {
  return find_wish<StepWish>(kStepNames, name);
}
std::optional<AttentionWish> find_attention_wish(std::string_view name) {
  return find_wish<AttentionWish>(kAttentionNames, name);
}

LinearQuery query_of(const WeightMatrix& matrix) {
  return {matrix.format, matrix.rows, matrix.cols, matrix.input_scale > 0};
}

ExpertsQuery query_of(const ExpertWeights& experts, const Activation& activation) {
  ExpertsQuery query;
  query.activation = activation;
  if (experts.empty()) return query;
  const ExpertMatrices& first = experts.experts.front();
  query.format = first.up.format;
  query.hidden = first.up.cols;
  query.width = first.up.rows;
  query.input_scale = true;
  const bool gated = activation.gating == Gating::kGated;
  for (const ExpertMatrices& expert : experts.experts) {
    // x is quantised once for both.
    query.input_scale = query.input_scale && expert.gate.input_scale == expert.up.input_scale;
    for (const WeightMatrix* m : {&expert.gate, &expert.up, &expert.down}) {
      if (m == &expert.gate && !gated) continue;
      const bool down = m == &expert.down;
      query.input_scale = query.input_scale && m->input_scale > 0;
      query.uniform = query.uniform && m->format == query.format &&
                      m->rows == (down ? query.hidden : query.width) &&
                      m->cols == (down ? query.width : query.hidden);
    }
  }
  return query;
}

}  // namespace facet
