#include "cli/cpu_weights.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <string>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/cpu_weights_cache.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "kernels/cpu/requantize.h"
#include "model/gemma4/requantizable.h"

namespace facet::cli {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int32_t kSamples = 4;  // of each matrix, for the identity
constexpr int64_t kSampleBytes = 64;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// One matrix in the buffer of all: global_scale (float32), then codes, then scales.
struct Place {
  gemma4::Requantizable target;
  WeightMatrix from;  // as the checkpoint has it
  WeightMatrix to;    // the plan, without bytes
  int64_t at = 0;     // of global_scale; the codes follow kAlignment later

  int64_t codes() const { return at + kAlignment; }
  int64_t scales() const { return codes() + aligned(to.rows * row_bytes(to)); }
  int64_t end() const { return scales() + aligned(scale_bytes(to)); }
};

struct Layout {
  std::vector<Place> places;
  CpuWeightsPlan plan;
};

Layout lay_out(gemma4::Weights& weights, WeightFormat format) {
  Layout layout;
  layout.plan.format = format;
  for (const gemma4::Requantizable& target : gemma4::requantizable(weights)) {
    const std::optional<WeightMatrix> plan = cpu::Requantizer::plan(*target.matrix, format);
    if (!plan && format == WeightFormat::kBF16) continue;
    if (!plan) {
      layout.plan.exact += cpu::Requantizer::plan(*target.matrix, WeightFormat::kInt8Group) ? 1 : 0;
      continue;
    }
    layout.places.push_back({target, *target.matrix, *plan, layout.plan.bytes});
    layout.plan.bytes = layout.places.back().end();
    layout.plan.from_bytes += stored_bytes(*target.matrix);
  }
  layout.plan.matrices = std::ssize(layout.places);
  return layout;
}

/// Which checkpoint this is, without reading all of it: size and time of its files, shapes, formats
/// and samples of the values of every matrix.
uint64_t identity_of(const Layout& layout, const std::string& folder) {
  uint64_t hash = 0;
  std::vector<std::pair<std::string, std::filesystem::path>> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    files.emplace_back(entry.path().filename().string(), entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& [name, path] : files) {
    const int64_t facts[] = {
        static_cast<int64_t>(std::filesystem::file_size(path)),
        static_cast<int64_t>(std::filesystem::last_write_time(path).time_since_epoch().count())};
    hash = checksum(std::as_bytes(std::span(name)), hash);
    hash = checksum(std::as_bytes(std::span(facts)), hash);
  }
  for (const Place& place : layout.places) {
    const WeightMatrix& m = place.from;
    const int64_t facts[] = {m.rows, m.cols, static_cast<int64_t>(m.format)};
    hash = checksum(std::as_bytes(std::span(facts)), hash);
    const int64_t bytes = m.rows * row_bytes(m);
    const int64_t size = std::min(bytes, kSampleBytes);
    for (int32_t i = 0; i < kSamples; ++i) {
      const std::byte* sample = m.data + (bytes - size) / kSamples * i;
      hash = checksum({sample, static_cast<size_t>(size)}, hash);
    }
  }
  return hash;
}

std::string tensor_of(const Checkpoint& checkpoint, const std::byte* data) {
  for (const StoredTensor* tensor : checkpoint.tensors()) {
    const std::byte* begin = tensor->bytes.data();
    if (begin <= data && data < begin + tensor->bytes.size()) return tensor->name;
  }
  return "a matrix";
}

void encode_all(const Layout& layout,
                const Checkpoint& checkpoint,
                const cpu::CpuOptions& options,
                std::byte* memory) {
  cpu::Requantizer requantizer(options);
  Progress progress("cpu weights", layout.plan.from_bytes, Progress::Unit::kBytes);
  int64_t done = 0;
  for (const Place& place : layout.places) {
    const std::optional<float> scale =
        requantizer.encode(place.from, place.to, memory + place.codes(), memory + place.scales());
    if (!scale) {
      throw Error(ErrorCode::kBadCheckpoint, "holds infinity or NaN, wanted finite weights",
                  tensor_of(checkpoint, place.from.data));
    }
    std::memcpy(memory + place.at, &*scale, sizeof(float));
    done += stored_bytes(place.from);
    progress.update(done);
  }
  progress.finish();
}

WeightMatrix view_of(const Place& place, const std::byte* memory) {
  WeightMatrix matrix = place.to;
  matrix.data = memory + place.codes();
  matrix.scales = scale_bytes(matrix) > 0 ? memory + place.scales() : nullptr;
  std::memcpy(&matrix.global_scale, memory + place.at, sizeof(float));
  return matrix;
}

}  // namespace

std::optional<WeightFormat> copy_format(const ModelOptions& options) {
  const bool lossy = options.cpu_weights == "nvfp4" || options.cpu_weights == "int8";
  if (!lossy && !options.cpu_weights_cache.empty()) {
    throw Error(ErrorCode::kUsage, "--cpu-weights-cache goes with --cpu-weights nvfp4 or int8");
  }
  if (options.cpu_weights == "exact") return std::nullopt;
  if (options.backend != "auto" && options.backend != "cpu") {
    throw Error(ErrorCode::kUsage,
                fmt::format("--cpu-weights {} goes with --backend cpu: {} computes with the "
                            "checkpoint's own weights",
                            options.cpu_weights, options.backend));
  }
  if (options.cpu_weights == "copied") return WeightFormat::kBF16;
  return options.cpu_weights == "nvfp4" ? WeightFormat::kNvfp4 : WeightFormat::kInt8Group;
}

std::string CpuWeightsPlan::describe() const {
  return fmt::format("{} matrices of {} as {} in {}", matrices, human_bytes(from_bytes),
                     to_string(format), human_bytes(bytes));
}

std::optional<CpuWeightsPlan> plan_cpu_weights(gemma4::Weights& weights,
                                               const ModelOptions& options) {
  const std::optional<WeightFormat> format = copy_format(options);
  if (!format) return std::nullopt;
  const Layout layout = lay_out(weights, *format);
  for (const Place& place : layout.places) {
    WeightMatrix planned = place.to;
    planned.data = place.from.data;  // which matrices are one and the same still shows
    place.target.replace(planned);
  }
  return layout.plan;
}

CpuWeights::CpuWeights(gemma4::Weights& weights,
                       const Checkpoint& checkpoint,
                       const ModelOptions& options) {
  const std::optional<WeightFormat> format = copy_format(options);
  if (!format) return;
  const auto start = std::chrono::steady_clock::now();
  const Layout layout = lay_out(weights, *format);
  WeightsIdentity identity;
  std::optional<SafetensorsFile> cached;
  if (!options.cpu_weights_cache.empty()) {
    identity = {std::string(to_string(*format)), identity_of(layout, checkpoint.folder()),
                layout.plan.bytes};
    cached = open_weights_cache(options.cpu_weights_cache, identity);
  }
  memory_ = Buffer(layout.plan.bytes);
  if (cached) {
    // Copied, not mapped: only memory of our own has large pages, which read faster.
    std::memcpy(memory_.data(), cached_data(*cached).data(), static_cast<size_t>(memory_.bytes()));
  } else {
    encode_all(layout, checkpoint, cpu_options(options), memory_.data());
    if (!options.cpu_weights_cache.empty()) {
      const auto size = static_cast<size_t>(layout.plan.bytes);
      try {
        write_weights_cache(options.cpu_weights_cache, identity, {memory_.data(), size});
      } catch (const Error& error) {
        // The copies are made; the next start will make them again.
        log_warning("load", "--cpu-weights-cache is not written: {}", error.what());
      }
    }
  }
  for (const Place& place : layout.places) {
    place.target.replace(view_of(place, memory_.data()));
    originals_.push_back(place.from.data);
  }
  std::sort(originals_.begin(), originals_.end());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log_info("load", "cpu weights: {} {}, {:.1f} s{}", layout.plan.describe(),
           cached ? "read from the cache" : "more memory", seconds,
           layout.plan.exact > 0
               ? fmt::format("; {} stay exact: their columns do not fit", layout.plan.exact)
               : std::string());
}

bool CpuWeights::replaced(std::span<const std::byte> bytes) const {
  const auto found = std::lower_bound(originals_.begin(), originals_.end(), bytes.data());
  return found != originals_.end() && *found < bytes.data() + bytes.size();
}

}  // namespace facet::cli
