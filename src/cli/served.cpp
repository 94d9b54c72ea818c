#include "cli/served.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <span>

#include "base/checksum.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "cache/kv_cache.h"
#include "cli/model_text.h"
#include "cli/sampling_options.h"
#include "commit.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostTemplateBytes = 1 << 20;
constexpr size_t kSampleBytes = 4096;

/// Tells checkpoints apart by their config, their tensors' names and shapes, and samples of their
/// values; reading all of it would take as long as loading.
uint64_t digest_of(const Checkpoint& checkpoint) {
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  uint64_t digest = checksum(bytes(boost::json::serialize(checkpoint.config())));
  for (const StoredTensor* tensor : checkpoint.tensors()) {
    digest = checksum(bytes(tensor->name), digest);
    const size_t size = std::min(kSampleBytes, tensor->bytes.size());
    digest = checksum(tensor->bytes.first(size), digest);
    digest = checksum(tensor->bytes.last(size), digest);
  }
  return digest;
}

/// Equal ones promise equal answers to equal seeds: build, checkpoint and numeric mode.
std::string fingerprint_of(const ServeOptions& options, const LoadedModel& loaded) {
  const std::string mode =
      fmt::format("{} {} {} {} {}", FACET_VERSION, FACET_COMMIT, options.model.cpu_weights,
                  to_string(kv_dtype(options.model, loaded.quant())), options.model.backend);
  return fmt::format("fp_{:016x}",
                     checksum(std::as_bytes(std::span(mode)), digest_of(loaded.checkpoint())));
}

/// Bytes that this machine could give now.
int64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  int64_t kilobytes = 0;
  for (std::string word; in >> word;) {
    if (word == "MemAvailable:" && in >> kilobytes) break;
  }
  return kilobytes * 1024;
}

int64_t kv_bytes_of(const ServeOptions& options, const LoadedModel& loaded) {
  if (options.kv_memory > 0) return options.kv_memory;
  const int64_t available = available_memory();
  const int64_t weights = loaded.checkpoint().file_bytes();
  const auto share = static_cast<int64_t>(static_cast<double>(available) * options.memory_fraction);
  if (share <= weights) {
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("{} of memory are free, --memory-fraction {} of that is {}, and the "
                            "weights take {}: nothing is left for keys and values (see "
                            "--memory-fraction and --kv-memory)",
                            human_bytes(available), options.memory_fraction, human_bytes(share),
                            human_bytes(weights)));
  }
  return share - weights;
}

}  // namespace

std::unique_ptr<ServedModel> served_model(const ServeOptions& options, const LoadedModel& loaded) {
  const std::string folder = loaded.checkpoint().folder();
  auto model = std::make_unique<ServedModel>(load_tokenizer(options.model.model));
  model->tokenizer.check_fits(loaded.config().vocab_size);
  model->render = render_options(folder, options.chat_template);
  model->render.template_exact = options.template_exact;
  model->render.enable_thinking = options.thinking == "on";
  if (options.generation_config == "auto")
    model->sampling = sampling_params({}, loaded.checkpoint());
  model->end_ids = end_ids(loaded.checkpoint(), loaded.config().eos_token_id);
  model->never_ids = never_ids(loaded.checkpoint());
  model->vocab_size = loaded.config().vocab_size;
  // A small vocabulary ends below the media tokens.
  std::erase_if(model->never_ids, [&](int32_t id) { return id >= model->vocab_size; });
  model->folder = folder;
  model->quantization = loaded.quant().describe();
  model->fingerprint = fingerprint_of(options, loaded);
  const fs::path chat_template = fs::path(folder) / "chat_template.jinja";
  if (fs::exists(chat_template))
    model->chat_template = read_file(chat_template, kMostTemplateBytes);
  model->created = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  return model;
}

EngineOptions engine_options(const ServeOptions& options, const LoadedModel& loaded) {
  EngineOptions engine;
  engine.kv_dtype = kv_dtype(options.model, loaded.quant());
  engine.kv_bytes = kv_bytes_of(options, loaded);
  engine.max_model_len = options.max_model_len;
  engine.max_running = options.max_running;
  engine.max_queue = options.max_queue;
  engine.max_queue_tokens = options.max_queue_tokens;
  engine.prefill_chunk = options.model.prefill_chunk;
  engine.prefix_caching = options.no_prefix_cache ? PrefixCaching::kOff : PrefixCaching::kOn;
  engine.schedule =
      options.schedule == "priority" ? ScheduleOrder::kPriority : ScheduleOrder::kFcfs;
  return engine;
}

std::vector<std::string> describe_pages(const ServeOptions& options,
                                        const LoadedModel& loaded,
                                        const EngineStatus& status) {
  const EngineOptions defaults;
  const std::vector<KvGroupSpec> groups =
      loaded.model().kv_groups(defaults.page_size, kv_dtype(options.model, loaded.quant()));
  std::vector<std::string> lines;
  for (size_t i = 0; i < std::min(groups.size(), status.groups.size()); ++i) {
    const KvGroupSpec& group = groups[i];
    const int64_t pages = status.groups[i].pages;
    lines.push_back(fmt::format(
        "{}: {} pages hold {} tokens, {}",
        group.window > 0 ? fmt::format("{} sliding layers (window {})", group.layers, group.window)
                         : fmt::format("{} full layers", group.layers),
        pages, pages * group.layout.page_size, human_bytes(pages * KvCache::page_bytes(group))));
  }
  return lines;
}

std::string why_model_len(const ServeOptions& options,
                          const LoadedModel& loaded,
                          const EngineLimits& limits) {
  if (limits.max_model_len == options.max_model_len) return "--max-model-len";
  if (limits.max_model_len == loaded.config().max_position_embeddings) return "the model's limit";
  return "what the pages hold; more with --kv-memory or --memory-fraction";
}

}  // namespace facet::cli
