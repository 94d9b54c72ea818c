// GET /metrics (server-api 11.2): each series under its own name and, where --metrics-alias asks
// for it, under those that vLLM and SGLang give it.

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/process.h"
#include "server/information.h"
#include "server/prometheus_text.h"

namespace facet {
namespace {

using Type = PrometheusText::Type;

/// What a series is called; empty: not there.
struct Names {
  std::string_view own;  // behind "engine_"
  std::string_view vllm = {};
  std::string_view sglang = {};
};

/// A row of the table: the same samples under all of its names.
class Table {
 public:
  explicit Table(const ServerSettings& settings)
      : aliases_(settings.metrics_aliases), text_(settings.names.front()) {}

  void counter(const Names& names, std::string_view help, int64_t value) {
    each(names, Type::kCounter, help, [&] { text_.sample(value); });
  }
  void gauge(const Names& names, std::string_view help, double value) {
    each(names, Type::kGauge, help, [&] { text_.sample(value); });
  }
  void histogram(const Names& names, std::string_view help, const Histogram& values) {
    const Histogram::Snapshot snapshot = values.snapshot();
    each(names, Type::kHistogram, help, [&] { text_.histogram(snapshot); });
  }

  PrometheusText& text() { return text_; }
  MetricsAliases aliases() const { return aliases_; }

 private:
  void each(const Names& names,
            Type type,
            std::string_view help,
            const std::function<void()>& write_samples) {
    const auto write = [&](std::string prefix, std::string_view name) {
      if (name.empty()) return;
      text_.family(prefix.append(name), type, help);
      write_samples();
    };
    write("engine_", names.own);
    if (aliases_.vllm) write("vllm:", names.vllm);
    if (aliases_.sglang) write("sglang:", names.sglang);
  }

  const MetricsAliases aliases_;
  PrometheusText text_;
};

double ratio(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

// ---- The rows

/// All groups of one kind together; `usage` is that of the fullest.
struct PageKind {
  std::string_view name;
  std::string_view sglang;
  int64_t pages = 0;
  int64_t unused = 0;
  double usage = 0;
};

std::vector<PageKind> page_kinds(const EngineStatus& status) {
  std::vector<PageKind> kinds = {{"full", "sglang:full_token_usage"},
                                 {"sliding", "sglang:swa_token_usage"}};
  for (const EngineStatus::Group& group : status.groups) {
    PageKind& kind = kinds[group.window > 0 ? 1 : 0];
    kind.pages += group.pages;
    kind.unused += group.unused();
    kind.usage = std::max(kind.usage, group.usage());
  }
  std::erase_if(kinds, [](const PageKind& kind) { return kind.pages == 0; });
  return kinds;
}

void add_pages(Table& table, const EngineStatus& status) {
  const std::vector<PageKind> kinds = page_kinds(status);
  const char* usage_help = "Share of the pages for keys and values in use, of the fullest group.";
  PrometheusText& text = table.text();
  text.family("engine_kv_usage_ratio", Type::kGauge, usage_help);
  text.sample(status.page_usage());
  for (const PageKind& kind : kinds) text.sample(kind.usage, {{"group", kind.name}});
  table.gauge({{}, "kv_cache_usage_perc", "token_usage"}, usage_help, status.page_usage());
  if (table.aliases().sglang) {
    for (const PageKind& kind : kinds) {
      text.family(kind.sglang, Type::kGauge, usage_help);
      text.sample(kind.usage);
    }
  }
  text.family("engine_kv_pages_free", Type::kGauge,
              "Pages that no sequence holds; the prefix cache gives up its own when asked.");
  for (const PageKind& kind : kinds) text.sample(kind.unused, {{"group", kind.name}});
  text.family("engine_kv_pages_total", Type::kGauge, "Pages for keys and values.");
  for (const PageKind& kind : kinds) text.sample(kind.pages, {{"group", kind.name}});
}

void add_load(Table& table, const ServerView& view, const EngineStatus& status) {
  table.gauge({"requests_running", "num_requests_running", "num_running_reqs"},
              "Prompts that have begun and not ended.", status.running);
  table.gauge({"requests_waiting", "num_requests_waiting", "num_queue_reqs"},
              "Prompts that have not begun.", status.waiting);
  add_pages(table, status);
  table.gauge({"generation_tokens_per_second", {}, "gen_throughput"},
              "Generated tokens per second over the last ten seconds.",
              view.meters.tokens_per_second(ServerMeters::Clock::now()));
}

void add_tokens(Table& table, const ServerView& view, const EngineStatus& status) {
  table.counter({"prefix_cache_queried_tokens_total", "prefix_cache_queries_total", {}},
                "Prompt tokens looked for in the prefix cache.", status.queried_tokens);
  table.counter({"prefix_cache_hit_tokens_total", "prefix_cache_hits_total", "cached_tokens_total"},
                "Prompt tokens found there.", status.cached_tokens);
  table.gauge({{}, {}, "cache_hit_rate"}, "Share of the tokens looked for that were found.",
              ratio(status.cached_tokens, status.queried_tokens));
  table.counter({"prompt_tokens_total", "prompt_tokens_total", "prompt_tokens_total"},
                "Tokens of prompts that were read, cached ones included.",
                view.meters.prompt_tokens);
  table.counter({"generated_tokens_total", "generation_tokens_total", "generation_tokens_total"},
                "Tokens generated for clients, control and end tokens included.",
                view.meters.generated_tokens);
  table.counter({"reasoning_tokens_total", "reasoning_tokens_total", "reasoning_tokens_total"},
                "Of these, inside thoughts; counted when a request ends.",
                view.meters.reasoning_tokens);
}

void add_requests(Table& table, const ServerView& view, const EngineStatus& status) {
  const ServerMeters& meters = view.meters;
  PrometheusText& text = table.text();
  const char* answered_help = "Requests answered to their end, by finish_reason.";
  int64_t answered = 0;
  for (const auto& [reason, count] : meters.answered_by_reason()) answered += count;
  const auto by_reason = [&](std::string_view name, std::string_view label) {
    text.family(name, Type::kCounter, answered_help);
    for (const auto& [reason, count] : meters.answered_by_reason())
      text.sample(count, {{label, reason}});
  };
  by_reason("engine_requests_total", "finish_reason");
  if (table.aliases().vllm) by_reason("vllm:request_success_total", "finished_reason");
  table.counter({{}, {}, "num_requests_total"}, answered_help, answered);
  text.family("engine_requests_refused_total", Type::kCounter,
              "Errors that were the answer, or the end of a stream, by error.code; all routes.");
  for (const auto& [code, count] : meters.refused_by_code()) text.sample(count, {{"code", code}});
  table.counter({"requests_cancelled_total", {}, "num_aborted_requests_total"},
                "Requests whose client went away.", meters.cancelled_requests());
  table.counter({"preemptions_total", "num_preemptions_total", "num_retracted_requests_total"},
                "Sequences that lost their pages to others and were computed again.",
                status.preemptions);
}

void add_histograms(Table& table, const ServerView& view) {
  const ServerMeters& meters = view.meters;
  const EngineMeters& engine = view.engine.meters();
  table.histogram(
      {"time_to_first_token_seconds", "time_to_first_token_seconds", "time_to_first_token_seconds"},
      "From a request's arrival to its first token.", meters.first_token_seconds);
  table.histogram(
      {"inter_token_seconds", "inter_token_latency_seconds", "inter_token_latency_seconds"},
      "Between two tokens of one choice.", meters.token_gap_seconds);
  table.histogram({"request_seconds", "e2e_request_latency_seconds", "e2e_request_latency_seconds"},
                  "From an answered request's arrival to its end.", meters.request_seconds);
  table.histogram({"queue_seconds", "request_queue_time_seconds", "queue_time_seconds"},
                  "That a prompt waited to begin.", engine.queue_seconds);
  table.histogram({"prefill_seconds", "request_prefill_time_seconds"},
                  "From there to its first token.", engine.prefill_seconds);
  table.histogram({"decode_seconds", "request_decode_time_seconds"}, "From there to its last.",
                  engine.decode_seconds);
  table.histogram({"request_prompt_tokens", "request_prompt_tokens"},
                  "Prompt tokens of answered requests.", meters.request_prompt_tokens);
  table.histogram({"request_generated_tokens", "request_generation_tokens"},
                  "Generated tokens of answered requests.", meters.request_generated_tokens);
  table.histogram({"step_tokens", "iteration_tokens_total"},
                  "Tokens of one step of the engine, of prompts and answers.", engine.step_tokens);
  table.histogram({"step_seconds"}, "That one step took.", engine.step_seconds);
}

/// Nothing speculates and no image is read yet, so these stay at nought.
void add_unused(Table& table) {
  table.counter({"spec_drafts_total", "spec_decode_num_drafts_total"}, "Drafts.", 0);
  table.counter({"spec_draft_tokens_total", "spec_decode_num_draft_tokens_total"},
                "Tokens of drafts.", 0);
  table.counter({"spec_accepted_tokens_total", "spec_decode_num_accepted_tokens_total"},
                "Of these, accepted.", 0);
  table.gauge({{}, {}, "spec_accept_length"}, "Tokens a step with a draft brings.", 0);
  table.gauge({{}, {}, "spec_accept_rate"}, "Share of draft tokens accepted.", 0);
  table.counter({"image_tokens_total"}, "Prompt tokens that stand for images.", 0);
  table.histogram({"image_seconds"}, "That one image took.", Histogram(kFirstTokenBorders));
}

void add_process(Table& table, const ServedInfo& info) {
  table.gauge({"load_seconds", {}, "engine_startup_time"},
              "From the program's start until it served.", info.load_seconds);
  PrometheusText& text = table.text();
  text.family("engine_build_info", Type::kGauge, "Always 1; what was built is in the labels.");
  text.sample(int64_t{1}, {{"version", info.version}, {"commit", info.commit}});
  const ProcessUsage usage = process_usage();
  const auto one = [&](std::string_view name, Type type, std::string_view help, auto value) {
    text.family(name, type, help);
    text.sample(value);
  };
  one("process_cpu_seconds_total", Type::kCounter, "Processor time.", usage.cpu_seconds);
  one("process_start_time_seconds", Type::kGauge, "Unix time of the start.", usage.start_time);
  one("process_resident_memory_bytes", Type::kGauge, "Memory in use, mapped files included.",
      usage.resident_bytes);
  one("process_virtual_memory_bytes", Type::kGauge, "Addresses in use.", usage.virtual_bytes);
  one("process_open_fds", Type::kGauge, "Open descriptors.", usage.open_descriptors);
  one("process_max_fds", Type::kGauge, "Most of them.", usage.most_descriptors);
}

}  // namespace

std::string metrics_text(const ServerView& view) {
  const EngineStatus status = view.engine.status();
  Table table(view.settings);
  add_load(table, view, status);
  add_tokens(table, view, status);
  add_requests(table, view, status);
  add_histograms(table, view);
  add_unused(table);
  add_process(table, view.model.info);
  return table.text().release();
}

}  // namespace facet
