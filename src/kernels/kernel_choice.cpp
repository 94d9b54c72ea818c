#include "kernels/kernel_choice.h"

#include <algorithm>
#include <bit>
#include <fmt/core.h>
#include <utility>

#include "base/error.h"
#include "kernels/gpu_limits.h"
#include "kernels/step_choice.h"

namespace facet {
namespace {

constexpr int32_t kLeastMajor = 8;   // BF16 tensor cores
constexpr int64_t kFp4Columns = 32;  // 16 bytes of codes, as bulk copies want them
constexpr int64_t kFp4Rows = 16;

std::string gpu_of(const GpuSetup& setup) {
  return setup.name.empty() ? to_string(setup.device)
                            : fmt::format("{} ({})", setup.name, to_string(setup.device));
}

/// FP4 tensor cores came with sm_100.
bool multiplies_fp4(ComputeCapability device) { return device.major >= 10; }

/// Columns that a kernel on tensor cores takes at once: a lane's 16 bytes, or an NVFP4 block.
constexpr int64_t unit_of(WeightFormat format) { return format == WeightFormat::kBF16 ? 8 : 16; }

ProductPath exact_path_of(WeightFormat format) {
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

/// Whether W4A4 can be, and if not why not.
PlanReason fp4_reason(const GpuSetup& setup, bool input_scale, bool shape_fits) {
  if (!multiplies_fp4(setup.device)) return PlanReason::kNoFp4Cores;
  if (!input_scale) return PlanReason::kNoInputScale;
  if (!setup.fp4_kernel) return PlanReason::kNoFp4Kernel;
  return shape_fits ? PlanReason::kFp4 : PlanReason::kFp4Shape;
}

/// What both kinds of product have in common.
struct Product {
  WeightFormat format;
  bool input_scale;
  bool fp4_shape;
  PlanReason obstacle;  // to tensor cores; kExact: none
  FormWish wish;
};

ProductForm form_of(FormWish wish) {
  switch (wish) {
    case FormWish::kStream:
      return ProductForm::kStream;
    case FormWish::kTiled:
      return ProductForm::kTiled;
    case FormWish::kPlain:
      return ProductForm::kPlain;
    case FormWish::kAuto:
      break;
  }
  return ProductForm::kByTokens;
}

ProductPlan plan(const GpuSetup& setup, const Product& p) {
  ProductPlan plan = {exact_path_of(p.format), form_of(p.wish), PlanReason::kExact};
  if (p.wish != FormWish::kAuto) plan.reason = PlanReason::kAskedForm;
  if (p.format == WeightFormat::kNvfp4 && p.wish == FormWish::kAuto) {
    plan.reason = setup.wishes.nvfp4 == PathWish::kW4A16
                      ? PlanReason::kAskedPath
                      : fp4_reason(setup, p.input_scale, p.fp4_shape);
    if (plan.reason == PlanReason::kFp4 && p.obstacle != PlanReason::kActivation &&
        p.obstacle != PlanReason::kMixed) {
      return {ProductPath::kW4A4, ProductForm::kFp4, PlanReason::kFp4};
    }
  }
  if (p.obstacle != PlanReason::kExact && p.wish != FormWish::kPlain) {
    plan.form = ProductForm::kPlain;
    plan.reason = p.obstacle;
  }
  return plan;
}

Product product_of(const GpuSetup& setup, const LinearQuery& q) {
  const bool known = q.format == WeightFormat::kBF16 || q.format == WeightFormat::kFp8 ||
                     q.format == WeightFormat::kNvfp4;
  PlanReason obstacle = PlanReason::kExact;
  if (!known) {
    obstacle = PlanReason::kFormat;
  } else if (q.cols % unit_of(q.format) != 0) {
    obstacle = PlanReason::kColumns;
  } else if (setup.wishes.linears == FormWish::kStream &&
             !linear_stream_fits(q.format, q.cols, shared_memory_of(setup.device))) {
    obstacle = PlanReason::kShared;
  }
  return {q.format, q.input_scale, q.cols % kFp4Columns == 0 && q.rows % kFp4Rows == 0, obstacle,
          setup.wishes.linears};
}

Product product_of(const GpuSetup& setup, const ExpertsQuery& q) {
  const int64_t unit = unit_of(q.format);
  PlanReason obstacle = PlanReason::kExact;
  if (!q.uniform) {
    obstacle = PlanReason::kMixed;
  } else if (q.activation.gating != Gating::kGated ||
             q.activation.function == ActivationFunction::kRelu2) {
    obstacle = PlanReason::kActivation;
  } else if (q.format != WeightFormat::kBF16 && q.format != WeightFormat::kNvfp4) {
    obstacle = PlanReason::kFormat;
  } else if (q.hidden % unit != 0 || q.width % unit != 0) {
    obstacle = PlanReason::kColumns;
  }
  return {q.format, q.input_scale, q.hidden % kFp4Columns == 0 && q.width % kFp4Columns == 0,
          obstacle, setup.wishes.experts};
}

void check_device(const GpuSetup& setup) {
  if (setup.device.major >= kLeastMajor) return;
  throw Error(ErrorCode::kDevice,
              fmt::format("the GPU is {}; BF16 tensor cores need sm_80 or newer", gpu_of(setup)));
}

[[noreturn]] void refuse(std::string_view option,
                         std::string_view value,
                         std::string_view why,
                         std::string_view works) {
  throw Error(ErrorCode::kUsage, fmt::format("{}; {}", why, works),
              fmt::format("{} {}", option, value));
}

/// What a product is made of, for messages.
struct Names {
  std::string_view option;  // of the form
  std::string_view what;    // "linears"
  std::string shape;        // "[704, 2816]"
  std::string activation;   // "" for linears
};

std::string obstacle_words(PlanReason reason, WeightFormat format, const Names& names) {
  switch (reason) {
    case PlanReason::kFormat:
      return fmt::format("{} has no kernel on tensor cores", to_string(format));
    case PlanReason::kColumns:
      return fmt::format("{} is no multiple of {} columns", names.shape, unit_of(format));
    case PlanReason::kActivation:
      return fmt::format("{} is not fused with a product: GeGLU (tanh) and SwiGLU are",
                         names.activation);
    case PlanReason::kMixed:
      return "the experts of a layer differ in format or shape";
    case PlanReason::kShared:
      return fmt::format("{} has rows too wide for shared memory", names.shape);
    default:
      return "decoded to BF16, exact";
  }
}

std::string fp4_words(const GpuSetup& setup, PlanReason reason, const Names& names) {
  switch (reason) {
    case PlanReason::kNoFp4Cores:
      return fmt::format("{} has no FP4 tensor cores (sm_100 has)", gpu_of(setup));
    case PlanReason::kNoInputScale:
      return "the checkpoint has no input_scale, it quantises weights alone";
    case PlanReason::kNoFp4Kernel:
      return fmt::format(
          "this build has no FP4 kernel for {} (FACET_CUTLASS=ON adds one for sm_100 and sm_103)",
          gpu_of(setup));
    default:
      return fmt::format("{} is not a shape of the FP4 kernel (columns by {})", names.shape,
                         kFp4Columns);
  }
}

/// Refuses wishes that this product cannot meet.
void check_wish(const GpuSetup& setup, const Product& p, const Names& names) {
  if (p.format == WeightFormat::kNvfp4 && setup.wishes.nvfp4 == PathWish::kW4A4) {
    if (p.wish != FormWish::kAuto) {
      refuse(kPathOption, "w4a4",
             fmt::format("{} {} computes W4A16", names.option,
                         kFormNames[static_cast<size_t>(p.wish)]),
             "one of the two works");
    }
    const PlanReason reason = fp4_reason(setup, p.input_scale, p.fp4_shape);
    if (reason != PlanReason::kFp4)
      refuse(kPathOption, "w4a4", fp4_words(setup, reason, names), "auto and w4a16 work");
    if (p.obstacle == PlanReason::kActivation || p.obstacle == PlanReason::kMixed)
      refuse(kPathOption, "w4a4", obstacle_words(p.obstacle, p.format, names), "auto works");
  }
  const bool tensor = p.wish == FormWish::kStream || p.wish == FormWish::kTiled;
  if (tensor && p.obstacle != PlanReason::kExact) {
    refuse(
        names.option, kFormNames[static_cast<size_t>(p.wish)],
        fmt::format("cannot compute {} on {}: {}", names.what, gpu_of(setup),
                    obstacle_words(p.obstacle, p.format, names)),
        p.obstacle == PlanReason::kShared ? "auto, tiled and plain work" : "auto and plain work");
  }
}

std::string kernel_words(const ProductPlan& plan, const Product& p, const Names& names) {
  const std::string fused = names.activation.empty() ? "" : fmt::format(", {}", names.activation);
  const std::string head = fmt::format("{} {}", to_string(plan.path), to_string(p.format));
  switch (plan.form) {
    case ProductForm::kByTokens:
      return fmt::format("{} on BF16 tensor cores: streamed for few tokens, in tiles for more{}",
                         head, fused.empty() ? "" : fused + " fused");
    case ProductForm::kStream:
      return fmt::format("{} on BF16 tensor cores, always streamed{}", head, fused);
    case ProductForm::kTiled:
      return fmt::format("{} on BF16 tensor cores, always in tiles{}", head, fused);
    case ProductForm::kPlain:
      return fmt::format("{}, plain arithmetic{}: slow", head, fused);
    case ProductForm::kFp4:
      break;
  }
  return fmt::format("{} on FP4 tensor cores{} (not run: no such GPU was at hand)", head, fused);
}

std::string why_words(const GpuSetup& setup,
                      const ProductPlan& plan,
                      const Product& p,
                      const Names& names) {
  const std::string exact = "decoded to BF16, exact";
  switch (plan.reason) {
    case PlanReason::kExact:
      return "weights are exact, sums in float32";
    case PlanReason::kFp4:
      return fmt::format(
          "{} multiplies FP4 and the checkpoint has input scales; results differ from w4a16",
          gpu_of(setup));
    case PlanReason::kAskedPath:
      return fmt::format("{} w4a16 was asked for; {}", kPathOption, exact);
    case PlanReason::kAskedForm:
      return fmt::format("{} {} was asked for", names.option,
                         kFormNames[static_cast<size_t>(p.wish)]);
    case PlanReason::kNoFp4Cores:
    case PlanReason::kNoInputScale:
    case PlanReason::kNoFp4Kernel:
    case PlanReason::kFp4Shape:
      return fmt::format("{}; {}", fp4_words(setup, plan.reason, names), exact);
    default:
      return obstacle_words(plan.reason, p.format, names);
  }
}

ProductChoice choose(const GpuSetup& setup, const Product& p, const Names& names) {
  check_device(setup);
  check_wish(setup, p, names);
  const ProductPlan chosen = plan(setup, p);
  return {chosen, {kernel_words(chosen, p, names), why_words(setup, chosen, p, names)}};
}

/// What stands between this attention and the tile kernels.
enum class AttentionObstacle { kNone, kCache, kHeads, kGroup, kShared };

uint32_t group_of(const AttentionShape& shape) {
  return static_cast<uint32_t>(shape.q_heads / std::max(shape.kv_heads, 1));
}

AttentionObstacle attention_obstacle(const GpuSetup& setup, const AttentionShape& shape) {
  if (shape.kv != DType::kBF16 && shape.kv != DType::kF8E4M3) return AttentionObstacle::kCache;
  if (shape.head_dim != 256 && shape.head_dim != 512) return AttentionObstacle::kHeads;
  if (group_of(shape) > 16 || !std::has_single_bit(group_of(shape)))
    return AttentionObstacle::kGroup;
  if (shared_memory_of(setup.device) < kAttentionShared) return AttentionObstacle::kShared;
  return AttentionObstacle::kNone;
}

std::string obstacle_words(const GpuSetup& setup,
                           const AttentionShape& shape,
                           AttentionObstacle obstacle) {
  switch (obstacle) {
    case AttentionObstacle::kCache:
      return fmt::format("the cache is {}, the tiles take BF16 and FP8", to_string(shape.kv));
    case AttentionObstacle::kHeads:
      return fmt::format("heads are {} wide, the tiles take 256 and 512", shape.head_dim);
    case AttentionObstacle::kGroup:
      return fmt::format("{} query heads share a KV head, the tiles take 1, 2, 4, 8 or 16",
                         group_of(shape));
    case AttentionObstacle::kShared:
      return fmt::format("{} has {} KiB of shared memory, the tiles take up to {}", gpu_of(setup),
                         shared_memory_of(setup.device) / 1024, kAttentionShared / 1024);
    case AttentionObstacle::kNone:
      break;
  }
  return "the tiles take this cache and these heads";
}

}  // namespace

ProductPlan plan_linear(const GpuSetup& setup, const LinearQuery& query) {
  return plan(setup, product_of(setup, query));
}

ProductPlan plan_experts(const GpuSetup& setup, const ExpertsQuery& query) {
  return plan(setup, product_of(setup, query));
}

ProductChoice choose_linear(const GpuSetup& setup, const LinearQuery& q) {
  return choose(setup, product_of(setup, q),
                {kLinearOption, "linears", fmt::format("[{}, {}]", q.rows, q.cols), ""});
}

ProductChoice choose_experts(const GpuSetup& setup, const ExpertsQuery& q) {
  return choose(setup, product_of(setup, q),
                {kExpertOption, "experts", fmt::format("[{}, {}]", q.width, q.hidden),
                 std::string(to_string(q.activation))});
}

bool plan_attention_tiles(const GpuSetup& setup, const AttentionShape& shape) {
  return setup.wishes.attention != AttentionWish::kPlain &&
         attention_obstacle(setup, shape) == AttentionObstacle::kNone;
}

AttentionChoice choose_attention(const GpuSetup& setup, const AttentionShape& shape) {
  check_device(setup);
  const AttentionObstacle obstacle = attention_obstacle(setup, shape);
  const bool possible = obstacle == AttentionObstacle::kNone;
  const AttentionWish wish = setup.wishes.attention;
  std::string why = obstacle_words(setup, shape, obstacle);
  if (!possible && wish == AttentionWish::kTiles) {
    refuse(kAttentionOption, "tiles", fmt::format("cannot run on {}: {}", gpu_of(setup), why),
           "auto and plain work");
  }
  if (wish != AttentionWish::kAuto) {
    why = fmt::format("{} {} was asked for", kAttentionOption,
                      kAttentionNames[static_cast<size_t>(wish)]);
  }
  const bool tiles = plan_attention_tiles(setup, shape);
  return {
      tiles,
      {fmt::format("{}, heads of {}, {} cache{}", tiles ? "tiles on tensor cores" : "plain float32",
                   shape.head_dim, to_string(shape.kv), tiles ? "" : ": slow"),
       std::move(why)}};
}

void check_wishes(const KernelWishes& wishes, const ModelTraits& model) {
  if (wishes.experts != FormWish::kAuto && !model.experts) {
    refuse(kExpertOption, kFormNames[static_cast<size_t>(wishes.experts)],
           "the model has no experts", "auto works");
  }
  if (wishes.nvfp4 != PathWish::kAuto && !model.nvfp4) {
    refuse(kPathOption, kPathNames[static_cast<size_t>(wishes.nvfp4)],
           "the model has no NVFP4 weights", "auto works");
  }
}

KernelChoice GpuKernels::linear_kernel(const WeightMatrix& matrix) const {
  return choose_linear(setup_, query_of(matrix)).words;
}

KernelChoice GpuKernels::experts_kernel(const ExpertWeights& experts,
                                        const Activation& activation) const {
  return choose_experts(setup_, query_of(experts, activation)).words;
}

KernelChoice GpuKernels::attention_kernel(const AttentionShape& shape) const {
  return choose_attention(setup_, shape).words;
}

std::optional<KernelChoice> GpuKernels::step_kernel(const StepQuery& query) const {
  return choose_step(setup_, query);
}

}  // namespace facet
