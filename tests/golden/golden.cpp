#include "tests/golden/golden.h"

#include <algorithm>
#include <cstring>
#include <fmt/core.h>

#include "base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/ref/ref_backend.h"

namespace facet::test {
namespace {

constexpr int32_t kMaxRows = 256;

/// "cpu_AVX512": a test's name holds no hyphen.
std::string name_of(cpu::Isa isa) {
  std::string name = fmt::format("cpu_{}", cpu::to_string(isa));
  std::erase(name, '-');
  return name;
}

}  // namespace

gemma4::Gemma4Model load_model(const Checkpoint& checkpoint,
                               Backend& backend,
                               gemma4::StepLimits limits) {
  const auto config = gemma4::Gemma4Config::parse(checkpoint.config());
  const auto quant = QuantConfig::parse(checkpoint.config(), checkpoint.hf_quant_config());
  const auto activation = *find_activation(config.hidden_activation);
  return {config, gemma4::load_weights(checkpoint, config, quant, activation), activation, backend,
          limits};
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names = {"ref"};
  for (const cpu::Isa isa : cpu::supported_isas()) names.push_back(name_of(isa));
  names.emplace_back("cuda");
  return names;
}

std::unique_ptr<Backend> make_backend(const std::string& name) {
  if (name == "ref") return ref::make_ref_backend();
  if (name == "cpu") return cpu::make_cpu_backend({});
  if (name == "cuda") return cuda::make_cuda_backend();
  const std::vector<cpu::Isa> isas = cpu::supported_isas();
  const auto isa = std::ranges::find(isas, name, name_of);
  CHECK(isa != isas.end(), "backend {}", name);
  return cpu::make_cpu_backend({.isa = *isa});
}

std::optional<std::string> absent(const std::string& name) {
  return name == "cuda" ? cuda::unavailable() : std::nullopt;
}

Golden::Golden(const std::string& folder)
    : checkpoint_(folder), expected_(folder + "/expected.safetensors") {}

std::vector<int32_t> Golden::ids(const char* name) const {
  const StoredTensor* tensor = expected_.find(name);
  CHECK(tensor != nullptr && tensor->dtype == DType::kI64, "{} is not there", name);
  std::vector<int32_t> ids(static_cast<size_t>(tensor->shape.elements()));
  for (size_t i = 0; i < ids.size(); ++i) {
    int64_t value = 0;
    std::memcpy(&value, tensor->bytes.data() + i * sizeof(value), sizeof(value));
    ids[i] = static_cast<int32_t>(value);
  }
  return ids;
}

std::span<const float> Golden::floats(const char* name) const {
  const StoredTensor* tensor = expected_.find(name);
  CHECK(tensor != nullptr && tensor->dtype == DType::kF32, "{} is not there", name);
  return {reinterpret_cast<const float*>(tensor->bytes.data()),
          static_cast<size_t>(tensor->shape.elements())};
}

LoadedModel::LoadedModel(const Checkpoint& checkpoint,
                         Backend& backend,
                         DType kv_dtype,
                         int32_t page_size)
    : model(load_model(checkpoint, backend, {kMaxRows, kMaxRows})),
      cache(model.kv_groups(page_size, kv_dtype),
            std::vector<int32_t>(model.kv_groups(page_size, kv_dtype).size(), 2048 / page_size),
            backend.allocator()),
      stepper(model, cache) {}

std::vector<std::vector<float>> rows_of(TensorView logits) {
  const std::span<const float> values = logits.as<float>();
  const auto width = static_cast<size_t>(logits.shape()[1]);
  std::vector<std::vector<float>> rows;
  for (size_t at = 0; at < values.size(); at += width) {
    rows.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(at),
                      values.begin() + static_cast<std::ptrdiff_t>(at + width));
  }
  return rows;
}

std::vector<std::vector<float>> run_chunks(LoadedModel& loaded,
                                           std::span<const int32_t> ids,
                                           int32_t chunk,
                                           StepObserver* observer,
                                           CacheSlot* slot) {
  const CacheSlot mine = loaded.cache.open();
  std::vector<std::vector<float>> rows;
  for (size_t at = 0; at < ids.size(); at += static_cast<size_t>(chunk)) {
    const auto part = ids.subspan(at, std::min(static_cast<size_t>(chunk), ids.size() - at));
    CHECK(loaded.cache.reserve(mine, static_cast<int32_t>(part.size())),
          "the test's cache is full");
    const SequenceStep step = {mine, part, LogitRows::kAll};
    for (auto& row : rows_of(loaded.stepper.run({&step, 1}, observer)))
      rows.push_back(std::move(row));
  }
  if (slot != nullptr) {
    *slot = mine;
  } else {
    loaded.cache.close(mine);
  }
  return rows;
}

int32_t argmax(std::span<const float> row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace facet::test
