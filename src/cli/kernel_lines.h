#pragma once

#include <boost/json/array.hpp>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/kernel_choice.h"
#include "model/gemma4/config.h"
#include "model/gemma4/weights.h"
#include "tensor/dtype.h"

namespace facet::cli {

/// What runs one kind of op, and why.
struct KernelLine {
  std::string kind;    ///< "experts", "attention", "linears", "steps"
  std::string format;  ///< of weights, or of the KV cache
  KernelChoice choice;
  bool operator==(const KernelLine&) const;
};

/// The kernels that would run a model: one line for each kind, and more where formats or shapes
/// part ways. Looks at no weights. Throws Error{kUsage} for a wish that cannot be.
std::vector<KernelLine> kernel_lines(const gemma4::Gemma4Config& config,
                                     const gemma4::Weights& weights,
                                     const Activation& activation,
                                     DType kv,
                                     const KernelChooser& chooser);

/// The same as JSON: [{"kind","format","kernel","why"}].
boost::json::array kernels_json(const std::vector<KernelLine>& lines);

/// Refuses what the kernels of a GPU cannot do, before anything is allocated there: throws
/// Error{kBadCheckpoint} for a dimension of the model, Error{kUsage} for a wish that is about
/// something the model does not have or cannot be met with its dimensions.
void check_gpu_model(const GpuSetup& setup,
                     const gemma4::Gemma4Config& config,
                     const gemma4::Weights& weights);

/// The lines in the log.
void log_kernels(const std::vector<KernelLine>& lines);

}  // namespace facet::cli
