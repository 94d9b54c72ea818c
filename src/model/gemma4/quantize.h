#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "model/gemma4/calibrate.h"
#include "model/gemma4/config.h"
#include "model/gemma4/weights.h"

namespace facet::gemma4 {

/// A plain checkpoint to be written with quantised matrices; all else stays as it was.
struct QuantizeJob {
  const Checkpoint& checkpoint;
  const Gemma4Config& config;
  const Weights& weights;
  const InputRanges* ranges = nullptr;  ///< for NVFP4; null: not calibrated
};

/// Called with the bytes written so far and in all.
using OnBytes = std::function<void(int64_t done, int64_t total)>;

/// NVIDIA's ModelOpt NVFP4 layout: the routed experts as per-expert NVFP4 Linears, or the dense
/// MLPs where there are no experts. Gate and up of one MLP share their scale, as ModelOpt's do
/// (checkpoint-formats 2.5, 2.6). With `ranges` (by calibration) the algorithm is NVFP4 and each
/// matrix has its input_scale; without, W4A16_NVFP4 and none. Writes model.safetensors, config.json
/// and hf_quant_config.json into the folder `out`, which must exist. Throws Error{kBadCheckpoint}
/// if a matrix to quantise is not plain, not finite or no multiple of 16 wide, Error{kIo} if a file
/// cannot be written.
void quantize_to_nvfp4(const QuantizeJob& job, const std::string& out, const OnBytes& on_bytes);

/// compressed-tensors' FP8 with a BF16 scale for each weight row and dynamic scales for each token
/// (checkpoint-formats 3.2, 3.3): every Linear of the layers, experts one by one; router,
/// embeddings, head, per-layer embeddings, vision and audio stay as they were. Writes
/// model.safetensors and config.json into `out`; throws as above.
void quantize_to_fp8(const QuantizeJob& job, const std::string& out, const OnBytes& on_bytes);

}  // namespace facet::gemma4
