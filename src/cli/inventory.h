#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "cli/session.h"

namespace facet::cli {

/// What a kind of module (attention, dense MLP, …) holds.
struct ModuleKind {
  std::set<WeightFormat> formats;
  int64_t bytes = 0;        ///< on disk
  int64_t token_bytes = 0;  ///< read for one decoded token of one stream
};

/// The matrices of a model by kind of module.
class Inventory {
 public:
  Inventory(const gemma4::Gemma4Config& config, const gemma4::Weights& weights);

  const std::map<std::string, ModuleKind>& kinds() const { return kinds_; }
  /// Formats of all matrices that are not experts'.
  std::set<WeightFormat> linear_formats() const;
  std::set<WeightFormat> expert_formats() const;
  int64_t token_bytes() const;

 private:
  void add(const char* name, const WeightMatrix& matrix, double share);

  std::map<std::string, ModuleKind> kinds_;
};

/// What running one sequence takes.
struct MemoryPlan {
  DType kv_dtype = DType::kBF16;
  int64_t positions = 0;          ///< of the sequence: --context, or the model's if that is less
  int64_t weights = 0;            ///< mapped
  int64_t cache = 0;              ///< pages of keys and values, allocated
  int64_t kept = 0;               ///< of these, for going back to the last prompt (`run`)
  int64_t scratch = 0;            ///< activations of the largest step
  int64_t sliding_position = 0;   ///< K and V of one more position in the sliding layers
  int64_t full_position = 0;      ///< the same in the full ones
  int64_t token_cache_bytes = 0;  ///< K and V read for a token decoded at the last position
  bool on_gpu = false;            ///< whether the GPU computes
  int64_t machine = 0;            ///< memory of the GPU then, else of this machine

  int64_t allocated() const { return cache + scratch; }
};

MemoryPlan plan_memory(const OpenModel& open, const ModelOptions& options, int64_t context);

}  // namespace facet::cli
