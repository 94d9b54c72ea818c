#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/activation.h"
#include "kernels/backend.h"
#include "kernels/product_form.h"
#include "quant/format.h"

namespace facet {

// Which GPU kernels run: a pure function of the GPU, the build, the model's formats and shapes and
// what the user asked for, all known before anything is allocated (HW-1 … HW-5 of the checkpoint
// formats). The CUDA backend asks it for each matrix; `info --gpu` asks it for a GPU elsewhere.

/// Compute capability of a GPU: {9, 0} is sm_90.
struct ComputeCapability {
  int32_t major = 0;
  int32_t minor = 0;
  bool operator==(const ComputeCapability&) const = default;
};

/// "sm_90".
std::string to_string(ComputeCapability device);
/// Of "sm_90", "sm90", "90", "sm_90a" or "9.0"; nullopt for anything else.
std::optional<ComputeCapability> find_compute_capability(std::string_view name);
/// Shared memory that one CTA can be given, in bytes (CUDA's table of compute capabilities).
int32_t shared_memory_of(ComputeCapability device);

/// How products with one matrix are computed.
enum class ProductPath : uint8_t {
  kW16,    ///< plain weights on BF16 tensor cores; float32 and float16 in plain arithmetic
  kW8A16,  ///< 8-bit weights decoded to BF16, exact; activations stay BF16
  kW4A16,  ///< 4-bit weights decoded to BF16, exact; activations stay BF16
  kW4A4,   ///< NVFP4 times activations quantised to NVFP4: FP4 tensor cores, another result
};

/// "W4A16", …: what logs, `info` and benchmarks print.
std::string_view to_string(ProductPath path);

/// What the user asked for, one for each option.
enum class PathWish : uint8_t { kAuto, kW4A16, kW4A4 };
enum class FormWish : uint8_t { kAuto, kStream, kTiled, kPlain };
enum class AttentionWish : uint8_t { kAuto, kTiles, kPlain };
/// A step of up to eight tokens, each of another sequence, as one launch. kAuto: where that fits
/// and is faster; kApart: never; kWhole: where it fits.
enum class StepWish : uint8_t { kAuto, kApart, kWhole };

inline constexpr std::string_view kPathOption = "--nvfp4-path";
inline constexpr std::string_view kExpertOption = "--expert-kernel";
inline constexpr std::string_view kLinearOption = "--linear-kernel";
inline constexpr std::string_view kAttentionOption = "--attention-kernel";
inline constexpr std::string_view kStepOption = "--step-kernel";

/// The options' values, in the order of the enums.
inline constexpr std::array<std::string_view, 3> kPathNames = {"auto", "w4a16", "w4a4"};
inline constexpr std::array<std::string_view, 4> kFormNames = {"auto", "stream", "tiled", "plain"};
inline constexpr std::array<std::string_view, 3> kAttentionNames = {"auto", "tiles", "plain"};
inline constexpr std::array<std::string_view, 3> kStepNames = {"auto", "apart", "whole"};

std::optional<PathWish> find_path_wish(std::string_view name);
std::optional<FormWish> find_form_wish(std::string_view name);
std::optional<AttentionWish> find_attention_wish(std::string_view name);
std::optional<StepWish> find_step_wish(std::string_view name);

struct KernelWishes {
  PathWish nvfp4 = PathWish::kAuto;
  FormWish experts = FormWish::kAuto;
  FormWish linears = FormWish::kAuto;
  AttentionWish attention = AttentionWish::kAuto;
  StepWish steps = StepWish::kAuto;
  bool operator==(const KernelWishes&) const = default;
};

/// Everything but the model.
struct GpuSetup {
  ComputeCapability device;
  std::string name;         ///< "NVIDIA H200"; empty: known by its capability alone
  bool fp4_kernel = false;  ///< the build has a W4A4 kernel for this GPU
  KernelWishes wishes = {};
};

/// One matrix of linear().
struct LinearQuery {
  WeightFormat format = WeightFormat::kBF16;
  int64_t rows = 0;
  int64_t cols = 0;
  bool input_scale = false;  ///< the file has a static activation scale
};
LinearQuery query_of(const WeightMatrix& matrix);

/// The routed experts of one layer.
struct ExpertsQuery {
  WeightFormat format = WeightFormat::kBF16;
  Activation activation;
  int64_t hidden = 0;
  int64_t width = 0;
  bool input_scale = false;  ///< every matrix has one, an expert's gate and up the same
  bool uniform = true;       ///< all of one format and shape
};
ExpertsQuery query_of(const ExpertWeights& experts, const Activation& activation);

/// Why a plan is what it is.
enum class PlanReason : uint8_t {
  kExact,         ///< nothing else to choose
  kNoFp4Cores,    ///< the GPU has none
  kNoInputScale,  ///< the file quantises weights alone
  kNoFp4Kernel,   ///< the build lacks it
  kFp4Shape,      ///< the shape is not one of the FP4 kernel
  kFp4,           ///< FP4 tensor cores, and all that they need
  kAskedPath,
  kAskedForm,
  kFormat,  ///< no kernel on tensor cores reads it
  kColumns,
  kActivation,
  kMixed,   ///< experts of several formats or shapes
  kShared,  ///< too wide to be streamed, which was asked for
};

struct ProductPlan {
  ProductPath path = ProductPath::kW16;
  ProductForm form = ProductForm::kByTokens;
  PlanReason reason = PlanReason::kExact;
};

/// The plan for a matrix, cheap enough to ask in every step; a wish that cannot be is not met.
ProductPlan plan_linear(const GpuSetup& setup, const LinearQuery& query);
ProductPlan plan_experts(const GpuSetup& setup, const ExpertsQuery& query);

struct ProductChoice {
  ProductPlan plan;
  KernelChoice words;  ///< kernel and why, one line each
};

/// The plan in words. Throws Error{kDevice} for a device below sm_80, and Error{kUsage} where a
/// wish cannot be met, naming option, value, GPU and what would work: a wish is never quietly
/// dropped.
ProductChoice choose_linear(const GpuSetup& setup, const LinearQuery& query);
ProductChoice choose_experts(const GpuSetup& setup, const ExpertsQuery& query);

/// Whether attention() runs on the tiles of tensor cores.
bool plan_attention_tiles(const GpuSetup& setup, const AttentionShape& shape);
struct AttentionChoice {
  bool tiles = false;
  KernelChoice words;
};
/// Throws as choose_linear().
AttentionChoice choose_attention(const GpuSetup& setup, const AttentionShape& shape);

/// Refuses wishes that are about something the model does not have: Error{kUsage}.
struct ModelTraits {
  bool experts = false;
  bool nvfp4 = false;
};
void check_wishes(const KernelWishes& wishes, const ModelTraits& model);

/// The choices for one GPU.
class GpuKernels final : public KernelChooser {
 public:
  explicit GpuKernels(GpuSetup setup) : setup_(std::move(setup)) {}
  const GpuSetup& setup() const { return setup_; }

  KernelChoice linear_kernel(const WeightMatrix& matrix) const override;
  KernelChoice experts_kernel(const ExpertWeights& experts,
                              const Activation& activation) const override;
  KernelChoice attention_kernel(const AttentionShape& shape) const override;
  std::optional<KernelChoice> step_kernel(const StepQuery& query) const override;

 private:
  GpuSetup setup_;
};

/// What the tile kernels of attention take of shared memory at most; their source holds them to it.
inline constexpr int32_t kAttentionShared = 227 * 1024;

}  // namespace facet
