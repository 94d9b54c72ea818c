#include "cli/served.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <fstream>
#include <openssl/sha.h>
#include <string_view>
#include <sys/sysinfo.h>

#include "base/cgroup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "cache/kv_cache.h"
#include "cli/model_text.h"
#include "cli/sampling_options.h"
#include "engine/page_plan.h"
#include "kernels/cuda/cuda_backend.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostTemplateBytes = 1 << 20;
/// Of the tokenizer.json that all published sizes share (server-api 15).
constexpr std::string_view kPublishedTokenizer =
    "cc8d3a0ce36466ccc1278bf987df5f71db1719b9ca6b4118264f45cb627bfe0f";
constexpr int32_t kLeastUseful = 2048;  // tokens
constexpr int64_t kMostTokenizerBytes = int64_t{1} << 28;

void log_other_tokenizer(const std::string& folder) {
  const std::string text = read_file(folder + "/tokenizer.json", kMostTokenizerBytes);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  const std::string found = fmt::format("{:02x}", fmt::join(digest, ""));
  if (found != kPublishedTokenizer)
    log_info("serve", "tokenizer.json is not the published one sha256={}", found);
}

/// Bytes that this machine could give now.
int64_t machine_memory() {
  std::ifstream in("/proc/meminfo");
  int64_t kilobytes = 0;
  for (std::string word; in >> word;) {
    if (word == "MemAvailable:" && in >> kilobytes) break;
  }
  if (kilobytes > 0) return kilobytes * 1024;
  // An empty root has no /proc; this leaves out what the page cache could give back.
  struct sysinfo memory {};
  if (sysinfo(&memory) != 0) return 0;
  return static_cast<int64_t>(memory.freeram + memory.bufferram) * memory.mem_unit;
}

/// Bytes that this process could have: a container may get less than the machine has.
int64_t available_memory() { return std::min(machine_memory(), cgroup_limits().memory_bytes); }

int64_t kv_bytes_of(const ServeOptions& options, const LoadedModel& loaded) {
  if (options.kv_memory > 0) return options.kv_memory;
  if (computes_on_cuda(options.model)) {
    const int64_t free = cuda::device_memory().free;  // the weights are in already
    return static_cast<int64_t>(static_cast<double>(free) * options.memory_fraction);
  }
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
  // Clients elsewhere load the tokenizer from here: where the server was started is not theirs.
  model->folder = fs::absolute(folder).lexically_normal();
  model->quantization = loaded.quant().describe();
  log_other_tokenizer(folder);
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
  // A GPU reads all weights for a few prompt rows already: few at a time would be dear.
  if (computes_on_cuda(options.model)) engine.unnoticed_ms = 30;
  engine.prefix_caching = options.no_prefix_cache ? PrefixCaching::kOff : PrefixCaching::kOn;
  engine.schedule =
      options.schedule == "priority" ? ScheduleOrder::kPriority : ScheduleOrder::kFcfs;
  return engine;
}

LoadedModel::CacheWish cache_wish(const ServeOptions& options) {
  const auto bytes = [options](const gemma4::Gemma4Model& model, DType dtype) {
    if (options.kv_memory > 0) return options.kv_memory;
    // Room for one request: all of it if a length was asked for, else one that is of some use.
    const int32_t wanted = options.max_model_len > 0 ? options.max_model_len : kLeastUseful;
    const PageNeeds needs = {.max_model_len = std::min(wanted, model.max_positions()),
                             .max_running = 1,
                             .step_rows = model.max_rows(),
                             .lag = 0};
    int64_t sum = 0;
    for (const KvGroupSpec& group : model.kv_groups(EngineOptions().page_size, dtype)) {
      sum += pages_of_sequence(group, needs.max_model_len, needs) * KvCache::page_bytes(group);
    }
    return sum;
  };
  return {bytes, options.kv_memory > 0 ? "--kv-memory" : "--max-model-len or --kv-dtype fp8"};
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
