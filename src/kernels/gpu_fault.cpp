#include "kernels/gpu_fault.h"

#include <algorithm>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

constexpr int32_t kLeastMajor = 8;  // BF16 tensor cores
/// What a process without data takes of a GPU, and more.
constexpr int64_t kContextBytes = int64_t{1} << 30;

std::string capability_words(ComputeCapability capability) {
  return fmt::format("compute capability {}.{}", capability.major, capability.minor);
}

}  // namespace

std::optional<std::string> find_gpu_fault(const GpuFacts& facts) {
  const int32_t wanted = facts.build / 1000;
  if (facts.driver == 0) return "no NVIDIA driver was found";
  if (facts.driver / 1000 < wanted) {
    return fmt::format(
        "the NVIDIA driver knows CUDA {}.{}, this build needs {}.0 or newer: install "
        "a newer driver",
        facts.driver / 1000, facts.driver % 1000 / 10, wanted);
  }
  if (facts.devices == 0) {
    return facts.count_error.empty()
               ? std::string("the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES may hide it)")
               : fmt::format("no GPU: cudaGetDeviceCount: {}", facts.count_error);
  }
  if (facts.capability.major < kLeastMajor) {
    return fmt::format("{} is too old: it has {}, wanted {}.0 or higher (BF16 tensor cores)",
                       facts.name, capability_words(facts.capability), kLeastMajor);
  }
  if (facts.taken) {
    return fmt::format("{} is taken by another process ({}); CUDA_VISIBLE_DEVICES chooses another",
                       facts.name, facts.context_error);
  }
  if (!facts.context_error.empty())
    return fmt::format("{} cannot be used: {}", facts.name, facts.context_error);
  if (!facts.has_code) {
    return fmt::format(
        "this build has no code for {} ({}): the preset cuda-all builds for all "
        "supported ones",
        facts.name, capability_words(facts.capability));
  }
  return std::nullopt;
}

std::string describe_memory(const DeviceMemory& memory, int64_t own) {
  const int64_t others = std::max<int64_t>(0, memory.total - memory.free - own);
  std::string text =
      fmt::format("{} of {} free", human_bytes(memory.free), human_bytes(memory.total));
  if (others > kContextBytes)
    text += fmt::format(" (other processes hold about {})", human_bytes(others));
  return text;
}

void check_gpu_memory(const GpuNeeds& needs, const DeviceMemory& memory) {
  const int64_t all = needs.weights + needs.activations + needs.cache;
  if (all <= memory.free) return;
  const bool cache_is_why = needs.weights + needs.activations < memory.free;
  const std::string helps =
      cache_is_why && !needs.cache_flags.empty()
          ? fmt::format("less with {}", needs.cache_flags)
          : std::string(
                "a checkpoint with smaller weights (facet quantize), a GPU with more free "
                "memory (CUDA_VISIBLE_DEVICES) or --backend cpu helps");
  throw Error(ErrorCode::kOutOfMemory,
              fmt::format("{} are needed ({} weights, {} keys and values, {} activations and "
                          "workspace), the GPU has {}; {}",
                          human_bytes(all), human_bytes(needs.weights), human_bytes(needs.cache),
                          human_bytes(needs.activations), describe_memory(memory, 0), helps),
              "memory of the GPU");
}

}  // namespace facet
