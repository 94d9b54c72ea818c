#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "model/gemma4/calibrate.h"
#include "model/gemma4/config.h"
#include "model/gemma4/weights.h"

namespace facet::gemma4 {

/// Writes a plain checkpoint in NVIDIA's ModelOpt NVFP4 layout: the routed experts as per-expert
/// NVFP4 Linears, or the dense MLPs where there are no experts; everything else as it was. Gate and
/// up of one MLP share their scale, as ModelOpt's do (checkpoint-formats 2.5, 2.6). With `ranges`
/// (by calibration) the algorithm is NVFP4 and each matrix has its input_scale; without,
/// W4A16_NVFP4 and none.
struct QuantizeJob {
  const Checkpoint& checkpoint;
  const Gemma4Config& config;
  const Weights& weights;
  const InputRanges* ranges = nullptr;  ///< null: not calibrated
};

/// Called with the bytes written so far and in all.
using OnBytes = std::function<void(int64_t done, int64_t total)>;

/// Writes model.safetensors, config.json and hf_quant_config.json into the folder `out`, which must
/// exist. Throws Error{kBadCheckpoint} if a matrix to quantise is not plain or no multiple of 16
/// wide, Error{kIo} if a file cannot be written.
void quantize_to_nvfp4(const QuantizeJob& job, const std::string& out, const OnBytes& on_bytes);

}  // namespace facet::gemma4
