#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "model/gemma4/synth_plan.h"

namespace facet::gemma4 {

/// Bytes of tensors after which a new shard begins, as the reference library splits models.
inline constexpr int64_t kShardBytes = 5'000'000'000;

/// Called with the bytes written so far.
using OnSynthBytes = std::function<void(int64_t done)>;

/// Writes the tensors of `plan` into the folder `out`, which must exist: model.safetensors if they
/// fit one shard, else model-0000N-of-0000M.safetensors and, once all of them are there, their
/// index. A tensor larger than `shard_bytes` has a shard of its own. What is written depends on the
/// plan and on shard_bytes only, never on the threads. Holds a few tens of MB. Returns the paths of
/// the files. Those written before a failure are removed. Throws Error{kIo} naming the file.
std::vector<std::string> write_synth(const SynthPlan& plan,
                                     const std::string& out,
                                     int64_t shard_bytes,
                                     WorkerPool& pool,
                                     const OnSynthBytes& on_bytes);

/// Throws Error{kIo} with both numbers if fewer than `bytes` are free where the folder `out` lies.
void check_room(const std::string& out, int64_t bytes);

}  // namespace facet::gemma4
