#include "cli/loaded_model.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fmt/core.h>
#include <span>
#include <sys/sysinfo.h>
#include <utility>

#include "base/checksum.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "base/worker_pool.h"
#include "cli/progress.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/ref/ref_backend.h"
#include "model/gemma4/operands.h"

namespace facet::cli {
namespace {

constexpr size_t kPieceBytes = size_t{8} << 20;
/// What kernels take beside activations, and graphs of steps: both grow in the first steps.
constexpr int64_t kGpuWorkspace = int64_t{512} << 20;
/// Names the step in which a kernel writes out of range: for tests of what follows.
constexpr const char* kFaultVariable = "FACET_PLANT_ILLEGAL_ACCESS";
constexpr size_t kPiecesAtOnce = 32;  // between two reports of progress

/// Some bytes of a tensor, read by one thread.
struct Piece {
  size_t tensor;
  std::span<const std::byte> bytes;
  uint64_t sum = 0;
};

int64_t fault_step() {
  const char* text = std::getenv(kFaultVariable);
  return text == nullptr ? 0 : std::strtoll(text, nullptr, 10);
}

}  // namespace

Activation activation_of(const gemma4::Gemma4Config& config) {
  const auto found = find_activation(config.hidden_activation);
  if (!found) {
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("field hidden_activation: found '{}', wanted one of: {}",
                            printable(config.hidden_activation), accepted_activations()),
                "config.json");
  }
  return *found;
}

OpenModel::OpenModel(const std::string& folder)
    : checkpoint(folder),
      config(gemma4::Gemma4Config::parse(checkpoint.config())),
      quant(QuantConfig::parse(checkpoint.config(), checkpoint.hf_quant_config())),
      activation(activation_of(config)),
      weights(gemma4::load_weights(checkpoint, config, quant, activation)) {}

int32_t bos_id(const gemma4::Gemma4Config& config) {
  const int32_t id = to_index(config.bos_token_id);
  if (id >= config.vocab_size) {
    throw Error(
        ErrorCode::kBadCheckpoint,
        fmt::format("field bos_token_id: found {}, wanted 0 to {}", id, config.vocab_size - 1),
        "config.json");
  }
  return id;
}

bool computes_on_cuda(const ModelOptions& options) {
  if (options.backend != "auto") return options.backend == "cuda";
  return options.cpu_weights == "exact" && !cuda::unavailable();  // else a processor is asked for
}

std::unique_ptr<Backend> make_backend(const ModelOptions& options) {
  const bool on_gpu = computes_on_cuda(options);
  const KernelWishes wishes = kernel_wishes(options, on_gpu);
  if (on_gpu) return cuda::make_cuda_backend({.wishes = wishes, .fault_step = fault_step()});
  if (options.backend == "auto" && cuda::is_built())
    log_info("kernels", "no GPU computes: {}", cuda::unavailable().value_or("--cpu-weights"));
  if (options.backend == "ref") return ref::make_ref_backend();
  return cpu::make_cpu_backend(cpu_options(options));
}

GpuSetup gpu_setup(const ModelOptions& options) {
  GpuSetup setup = cuda::gpu_setup();
  setup.wishes = kernel_wishes(options, true);
  return setup;
}

cpu::CpuOptions cpu_options(const ModelOptions& options) {
  cpu::CpuOptions cpu;
  cpu.threads = options.threads;
  if (options.cpu_isa != "auto") {
    cpu.isa = cpu::isa_from_string(options.cpu_isa);
    if (!cpu.isa) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--cpu-isa '{}': wanted auto, baseline, avx2 or avx512",
                              printable(options.cpu_isa)));
    }
  }
  return cpu;
}

DType kv_dtype(const ModelOptions& options, const QuantConfig& quant) {
  if (options.kv_dtype == "f32") return DType::kF32;
  if (options.kv_dtype == "bf16") return DType::kBF16;
  if (options.kv_dtype == "fp8") return DType::kF8E4M3;
  return quant.kv_fp8() ? DType::kF8E4M3 : DType::kBF16;
}

LoadedModel::LoadedModel(const ModelOptions& options,
                         int32_t max_logit_rows,
                         const CacheWish& cache)
    : LoadedModel(options, max_logit_rows, cache, OpenModel(find_model(options.model))) {}

LoadedModel::LoadedModel(const ModelOptions& options,
                         int32_t max_logit_rows,
                         const CacheWish& cache,
                         OpenModel open)
    : phases_(open.begun),
      checkpoint_(std::move(open.checkpoint)),
      threads_(options.threads),
      backend_(backend_for(open, options, max_logit_rows, cache)),
      cpu_weights_(open.weights, checkpoint_, options),
      kernels_(kernel_lines(
          open.config, open.weights, open.activation, kv_dtype(options, open.quant), *backend_)),
      model_(std::move(open.config),
             std::move(open.weights),
             open.activation,
             *backend_,
             {options.prefill_chunk, max_logit_rows}) {
  quant_ = std::move(open.quant);  // backend_for() asks it
  phases_.end("weights", checkpoint_.file_bytes());
}

std::unique_ptr<Backend> LoadedModel::backend_for(OpenModel& open,
                                                  const ModelOptions& options,
                                                  int32_t max_logit_rows,
                                                  const CacheWish& cache) {
  phases_.end("checkpoint");
  std::unique_ptr<Backend> backend = make_backend(options);
  if (computes_on_cuda(options)) {
    check_gpu_model(gpu_setup(options), open.config, open.weights);
    const DType kv = kv_dtype(options, open.quant);
    log_kernels(kernel_lines(open.config, open.weights, open.activation, kv, *backend));
    const auto host = ref::make_ref_backend();  // its scratch is reserved, and never touched
    const gemma4::Gemma4Model planned(open.config, open.weights, open.activation, *host,
                                      {options.prefill_chunk, max_logit_rows});
    ModelOperands operands = gemma4::operands_of(open.weights);
    operands.activation = open.activation;
    GpuNeeds needs;
    needs.weights = backend->load_bytes(operands);
    needs.activations = planned.scratch_bytes() + kGpuWorkspace;
    if (cache.bytes) needs.cache = cache.bytes(planned, kv);
    needs.cache_flags = cache.flags;
    check_gpu_memory(needs, cuda::device_memory());
  }
  phases_.end("backend");
  return backend;
}

int64_t LoadedModel::stored_bytes() const {
  int64_t total = 0;
  for (const StoredTensor* tensor : checkpoint_.tensors())
    total += static_cast<int64_t>(tensor->bytes.size());
  return total;
}

TensorSums LoadedModel::warm_up(const OnRead& on_read) {
  const std::vector<const StoredTensor*>& tensors = checkpoint_.tensors();
  TensorSums sums(tensors.size());
  struct sysinfo memory {};
  if (sysinfo(&memory) != 0) return sums;
  const auto room = static_cast<int64_t>(memory.freeram + memory.bufferram) * memory.mem_unit;
  std::vector<Piece> pieces;
  int64_t total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::span<const std::byte> bytes = tensors[i]->bytes;
    if (cpu_weights_.replaced(bytes)) continue;
    total += static_cast<int64_t>(bytes.size());
    for (size_t at = 0; at < bytes.size(); at += kPieceBytes)
      pieces.push_back({i, bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at))});
  }
  // Pages that are in memory already cost nothing, so a full page cache is no reason to skip; a
  // checkpoint larger than the machine is.
  if (total > static_cast<int64_t>(memory.totalram) * memory.mem_unit * 9 / 10 && total > room)
    return sums;
  Progress progress("weights", total, Progress::Unit::kBytes);
  WorkerPool pool(threads_);
  int64_t done = 0;
  for (size_t at = 0; at < pieces.size(); at += kPiecesAtOnce) {
    const auto some = std::span(pieces).subspan(at, std::min(kPiecesAtOnce, pieces.size() - at));
    pool.parallel_for(std::ssize(some), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        Piece& piece = some[static_cast<size_t>(i)];
        piece.sum = checksum(piece.bytes);
      }
    });
    for (const Piece& piece : some) {
      const std::array<uint64_t, 2> both = {sums[piece.tensor].value_or(0), piece.sum};
      sums[piece.tensor] = checksum(std::as_bytes(std::span(both)));
      done += static_cast<int64_t>(piece.bytes.size());
    }
    progress.update(done);
    if (on_read) on_read(done, total);
  }
  progress.finish();
  phases_.end("checksums", total);
  return sums;
}

}  // namespace facet::cli
