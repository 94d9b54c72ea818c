#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/kv_cache.h"
#include "checkpoint/checkpoint.h"
#include "engine/stepper.h"
#include "kernels/backend.h"
#include "model/gemma4/gemma4_model.h"

namespace facet::test {

/// "ref", the CPU backend on each instruction set that this machine has: "cpu_SSE4", "cpu_AVX2",
/// and "cuda", whether or not it can be made here. make_backend also knows "cpu", the best of them.
std::vector<std::string> backend_names();
std::unique_ptr<Backend> make_backend(const std::string& name);
/// Why make_backend() cannot make it here, if it cannot.
std::optional<std::string> absent(const std::string& name);

/// A reference checkpoint with what transformers computed for it (goldens/README.md of the shared
/// data).
class Golden {
 public:
  explicit Golden(const std::string& folder);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  std::vector<int32_t> ids(const char* name) const;       // an I64 tensor of expected.safetensors
  std::span<const float> floats(const char* name) const;  // an F32 tensor
  bool has(const char* name) const { return expected_.find(name) != nullptr; }

 private:
  Checkpoint checkpoint_;
  SafetensorsFile expected_;
};

/// The model of a checkpoint. Both must outlive it.
gemma4::Gemma4Model load_model(const Checkpoint& checkpoint,
                               Backend& backend,
                               gemma4::StepLimits limits);

/// A model over a golden's checkpoint, with a cache large enough for the tests.
struct LoadedModel {
  LoadedModel(const Checkpoint& checkpoint,
              Backend& backend,
              DType kv_dtype = DType::kF32,
              int32_t page_size = 16);

  gemma4::Gemma4Model model;
  KvCache cache;
  Stepper stepper;
};

/// Rows of logits as vectors.
std::vector<std::vector<float>> rows_of(TensorView logits);

/// The logits of every token of `ids`, fed in steps of at most `chunk` rows into a new sequence,
/// which is left open if `slot` is given.
std::vector<std::vector<float>> run_chunks(LoadedModel& loaded,
                                           std::span<const int32_t> ids,
                                           int32_t chunk,
                                           StepObserver* observer = nullptr,
                                           CacheSlot* slot = nullptr);

int32_t argmax(std::span<const float> row);

}  // namespace facet::test
