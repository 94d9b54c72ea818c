#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/prompt_renderer.h"
#include "chat/token_table.h"
#include "engine/sampling.h"
#include "server/key_use.h"
#include "server/route_table.h"
#include "server/served_info.h"
#include "tokenizer/tokenizer.h"

namespace facet {

/// What the routes must know of the model that is served. Constant once it is there.
struct ServedModel {
  explicit ServedModel(Tokenizer tokenizer_in)
      : tokenizer(std::move(tokenizer_in)), table(tokenizer) {}
  // The table points to the tokenizer.
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  Tokenizer tokenizer;
  TokenTable table;
  RenderOptions render;            ///< enable_thinking: the server's default
  SamplingParams sampling;         ///< of generation_config.json, or neutral
  std::vector<int32_t> end_ids;    ///< end tokens
  std::vector<int32_t> never_ids;  ///< never sampled
  int32_t max_model_len = 0;       ///< tokens of one sequence, prompt and answer
  int32_t vocab_size = 0;
  std::string folder;
  std::string quantization;   ///< in words
  std::string fingerprint;    ///< of build, checkpoint and numeric mode
  std::string chat_template;  ///< the checkpoint's own; empty: none
  int64_t created = 0;        ///< Unix time
  ServedInfo info;
};

/// Which of two names thoughts are sent under.
enum class ReasoningField { kBoth, kReasoning, kReasoningContent };

/// How arguments of calls are streamed.
enum class ToolStream { kPieces, kWhole };

/// Does every call follow its schema, or only where the request says "strict"?
enum class ToolSchema { kWhereStrict, kAlways };

/// Tokens of thought that a level of reasoning effort allows, by its name; no entry: any number.
using EffortBudgets = std::map<std::string, int32_t, std::less<>>;
inline constexpr std::array<std::string_view, 7> kEffortLevels = {
    "none", "minimal", "low", "medium", "high", "xhigh", "max"};

/// Under which foreign names /metrics repeats its series.
struct MetricsAliases {
  bool vllm = false;
  bool sglang = false;
};

/// What the command line says about requests.
struct ServerSettings {
  std::vector<std::string> names;  ///< the served name first, then its aliases
  bool any_model_name = false;
  bool strict_fields = false;      ///< unknown fields are refused
  bool strict_max_tokens = false;  ///< a cap above what the context leaves is refused
  V1Alias v1_alias = V1Alias::kYes;
  bool web = true;            ///< the page at /
  bool admin_api = false;     ///< the routes of RouteAccess::kAdmin are there
  bool metrics_open = false;  ///< /metrics needs no key
  MetricsAliases metrics_aliases;
  ReasoningField reasoning_field = ReasoningField::kBoth;
  ToolStream tool_stream = ToolStream::kPieces;
  ToolSchema tool_schema = ToolSchema::kWhereStrict;
  std::chrono::seconds sse_ping{30};        ///< 0: never
  std::chrono::seconds queue_timeout{0};    ///< 0: none
  std::chrono::seconds request_timeout{0};  ///< 0: none
  std::vector<std::string> allowed_hosts;   ///< beside the loopback names
  std::vector<std::string> allowed_origins;
  KeyUse::Limits key_limits;  ///< of keys that name none of their own
  EffortBudgets effort_budgets;
  int64_t body_limit = 8 << 20;  ///< bytes
  bool check_host = true;        ///< bound to loopback: Host must be a loopback name or allowed
};

}  // namespace facet
