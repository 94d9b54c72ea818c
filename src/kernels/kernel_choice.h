#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/activation.h"
#include "kernels/backend.h"
#include "quant/format.h"

namespace facet {

// Which GPU kernels compute products with stored weights: a pure function of what is known before
// anything is allocated (HW-1 … HW-5 of the checkpoint formats).

/// Compute capability of a GPU: {9, 0} is sm_90.
struct ComputeCapability {
  int32_t major = 0;
  int32_t minor = 0;
  bool operator==(const ComputeCapability&) const = default;
};

/// How products with one matrix are computed.
enum class ProductPath : uint8_t {
  kW16,    ///< plain weights on BF16 tensor cores; float32 and float16 in plain arithmetic
  kW8A16,  ///< 8-bit weights decoded to BF16, exact; activations stay BF16
  kW4A16,  ///< 4-bit weights decoded to BF16, exact; activations stay BF16
  kW4A4,   ///< NVFP4 times activations quantised to NVFP4: FP4 tensor cores, another result
};

/// "W4A16", …: what logs, `info` and benchmarks print.
std::string_view to_string(ProductPath path);

/// What the user asked for.
enum class PathWish : uint8_t { kAuto, kW4A16, kW4A4 };
/// "auto", "w4a16", "w4a4"; nullopt for anything else.
std::optional<PathWish> find_path_wish(std::string_view name);

/// One product to choose for.
struct ProductQuery {
  ComputeCapability device;
  WeightFormat format = WeightFormat::kBF16;
  int64_t rows = 0;
  int64_t cols = 0;
  bool input_scale = false;  ///< the file has a static activation scale
  PathWish wish = PathWish::kAuto;
};

/// The routed experts of one layer.
struct ExpertsQuery {
  ComputeCapability device;
  WeightFormat format = WeightFormat::kBF16;
  Activation activation;
  int64_t hidden = 0;
  int64_t width = 0;
  bool input_scale = false;
  PathWish wish = PathWish::kAuto;
};

struct ProductChoice {
  ProductPath path = ProductPath::kW16;
  bool tensor_cores = true;  ///< false: the plain kernel, right for every format and shape, slow
  KernelChoice words;        ///< kernel and why, one line each
};

/// The kernel for `linear`. Throws Error{kDevice} for a device below sm_80, and Error{kUsage} where
/// `wish` cannot run, naming the option, what was found and what was wanted; a wish is never
/// quietly dropped.
ProductChoice choose_linear(const ProductQuery& query);
/// The same for `experts`; an activation or format that no kernel has is Error{kBadCheckpoint} with
/// its name.
ProductChoice choose_experts(const ExpertsQuery& query);

/// The option that `wish` comes from, as error lines name it.
inline constexpr std::string_view kPathOption = "--nvfp4-path";

}  // namespace facet
