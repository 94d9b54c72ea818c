#include "kernels/kernel_choice.h"

#include <fmt/core.h>

#include "base/error.h"

namespace facet {
namespace {

/// Columns that a kernel on tensor cores takes at once: a lane's 16 bytes, or an NVFP4 block.
constexpr int64_t unit_of(WeightFormat format) { return format == WeightFormat::kBF16 ? 8 : 16; }

std::string name_of(ComputeCapability device) {
  return fmt::format("sm_{}{}", device.major, device.minor);
}

/// FP4 tensor cores came with sm_100.
bool multiplies_fp4(ComputeCapability device) { return device.major >= 10; }

void check_device(ComputeCapability device) {
  if (device.major >= 8) return;
  throw Error(ErrorCode::kDevice,
              fmt::format("the GPU is {}; BF16 tensor cores need sm_80 or newer", name_of(device)));
}

/// W4A4 needs the hardware and a scale that the file brings.
bool can_w4a4(ComputeCapability device, bool input_scale) {
  return multiplies_fp4(device) && input_scale;
}

/// Refuses a wish for W4A4 that cannot be.
void check_wish(PathWish wish, ComputeCapability device, WeightFormat format, bool input_scale) {
  if (wish == PathWish::kAuto) return;
  const auto refuse = [](const std::string& text) {
    throw Error(ErrorCode::kUsage, text, std::string(kPathOption));
  };
  const std::string_view wanted = wish == PathWish::kW4A4 ? "w4a4" : "w4a16";
  if (format != WeightFormat::kNvfp4) {
    refuse(fmt::format("{} is for NVFP4 weights; these are {}", wanted, to_string(format)));
  }
  if (wish != PathWish::kW4A4) return;
  if (!multiplies_fp4(device)) {
    refuse(fmt::format("w4a4 needs FP4 tensor cores (sm_100 or newer); the GPU is {}",
                       name_of(device)));
  }
  if (!input_scale) {
    refuse(
        "w4a4 needs an input_scale for every NVFP4 matrix; the checkpoint has none (weight only)");
  }
}

ProductPath path_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return ProductPath::kW16;
    case WeightFormat::kFp8:
    case WeightFormat::kFp8Block:
    case WeightFormat::kInt8Group:
      return ProductPath::kW8A16;
    case WeightFormat::kNvfp4:
    case WeightFormat::kInt4Group:
      return ProductPath::kW4A16;
  }
  return ProductPath::kW16;
}

/// The exact path of NVFP4 and why it was taken.
std::string why_w4a16(ComputeCapability device, PathWish wish, bool input_scale) {
  if (wish == PathWish::kW4A16) return fmt::format("{} w4a16 was asked for", kPathOption);
  if (!multiplies_fp4(device)) {
    return fmt::format("{} has no FP4 tensor cores; decoded to BF16, exact", name_of(device));
  }
  if (!input_scale) return "the checkpoint has no input_scale; decoded to BF16, exact";
  return "decoded to BF16, exact";
}

}  // namespace

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
  if (name == "auto") return PathWish::kAuto;
  if (name == "w4a16") return PathWish::kW4A16;
  if (name == "w4a4") return PathWish::kW4A4;
  return std::nullopt;
}

ProductChoice choose_linear(const ProductQuery& q) {
  check_device(q.device);
  check_wish(q.wish, q.device, q.format, q.input_scale);
  ProductChoice choice;
  if (q.format == WeightFormat::kNvfp4 && q.wish != PathWish::kW4A16 &&
      can_w4a4(q.device, q.input_scale)) {
    choice.path = ProductPath::kW4A4;
    choice.words = {"W4A4 on FP4 tensor cores",
                    fmt::format("{} multiplies FP4 and the checkpoint has input scales; results "
                                "differ from w4a16",
                                name_of(q.device))};
    return choice;
  }
  choice.path = path_of(q.format);
  const bool known = q.format == WeightFormat::kBF16 || q.format == WeightFormat::kFp8 ||
                     q.format == WeightFormat::kNvfp4;
  choice.tensor_cores = known && q.cols % unit_of(q.format) == 0;
  if (!choice.tensor_cores) {
    choice.words = {
        fmt::format("{} {}, plain arithmetic", to_string(choice.path), to_string(q.format)),
        known ? fmt::format("{} columns are no multiple of {}", q.cols, unit_of(q.format))
              : fmt::format("{} has no kernel on tensor cores", to_string(q.format))};
    return choice;
  }
  choice.words = {
      fmt::format("{} {} on BF16 tensor cores: streamed for up to 8 tokens, in tiles for more",
                  to_string(choice.path), to_string(q.format)),
      q.format == WeightFormat::kNvfp4 ? why_w4a16(q.device, q.wish, q.input_scale)
                                       : "weights are exact, sums in float32"};
  return choice;
}

ProductChoice choose_experts(const ExpertsQuery& q) {
  check_device(q.device);
  check_wish(q.wish, q.device, q.format, q.input_scale);
  const Activation& a = q.activation;
  if (a.gating != Gating::kGated || a.function == ActivationFunction::kRelu2) {
    throw Error(
        ErrorCode::kBadCheckpoint,
        fmt::format("experts with {}: the GPU kernels have GeGLU (tanh) and SwiGLU", to_string(a)));
  }
  ProductChoice choice;
  if (q.format == WeightFormat::kNvfp4 && q.wish != PathWish::kW4A16 &&
      can_w4a4(q.device, q.input_scale)) {
    choice.path = ProductPath::kW4A4;
    choice.words = {fmt::format("W4A4 on FP4 tensor cores, {}", to_string(a)),
                    fmt::format("{} multiplies FP4 and the checkpoint has input scales; results "
                                "differ from w4a16",
                                name_of(q.device))};
    return choice;
  }
  choice.path = path_of(q.format);
  const bool known = q.format == WeightFormat::kBF16 || q.format == WeightFormat::kNvfp4;
  const int64_t unit = unit_of(q.format);
  choice.tensor_cores = known && q.hidden % unit == 0 && q.width % unit == 0;
  if (!choice.tensor_cores) {
    choice.words = {fmt::format("{} {}, plain arithmetic, {}", to_string(choice.path),
                                to_string(q.format), to_string(a)),
                    known ? fmt::format("[{}, {}] are no multiples of {}", q.width, q.hidden, unit)
                          : fmt::format("{} has no kernel on tensor cores", to_string(q.format))};
    return choice;
  }
  choice.words = {fmt::format("{} {} on BF16 tensor cores, {} fused", to_string(choice.path),
                              to_string(q.format), to_string(a)),
                  q.format == WeightFormat::kNvfp4 ? why_w4a16(q.device, q.wish, q.input_scale)
                                                   : "weights are exact, sums in float32"};
  return choice;
}

}  // namespace facet
