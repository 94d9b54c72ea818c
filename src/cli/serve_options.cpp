#include "cli/serve_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fmt/core.h>
#include <string_view>
#include <unistd.h>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/serve_config.h"

namespace facet::cli {
namespace {

void add_listen_options(CLI::App& command, ServeOptions& o) {
  const char* group = "Listening";
  const auto add = [&](const char* name, auto& field, const char* help) {
    return command.add_option(name, field, help)->group(group);
  };
  add("--host", o.listen.host, "Address or name to listen on")->capture_default_str();
  add("--port", o.listen.port, "Port; 0: any free one, printed at start")->capture_default_str();
  add("--uds", o.listen.unix_socket, "A Unix socket to listen on instead (mode 0660)");
  add("--api-key-file", o.key_file,
      "File of keys (mode 0600), a line each: KEY, or NAME KEY and behind it any of admin, "
      "per-minute=N, concurrent=N; # begins a comment. Needed for --host beyond this machine");
  add("--key-per-minute", o.settings.key_limits.per_minute,
      "Requests a minute of each key whose line does not say; more are refused with 429. 0: any")
      ->check(CLI::Range(0, 1000000000))
      ->capture_default_str();
  add("--key-concurrent", o.settings.key_limits.concurrent,
      "The same: its requests at the same time")
      ->check(CLI::Range(0, 1000000000))
      ->capture_default_str();
  add("--tls-cert", o.listen.tls_certificate, "PEM certificate chain: speak TLS");
  add("--tls-key", o.listen.tls_key, "PEM private key of it");
  command
      .add_flag("--behind-proxy", o.behind_proxy,
                "A proxy in front of --host does TLS: no warning about keys in the clear")
      ->group(group);
  add("--allow-host", o.settings.allowed_hosts,
      "On loopback: a further name that requests may give in Host");
  add("--allow-origin", o.settings.allowed_origins,
      "Web pages that may use the server, as https://name");
  add("--max-connections", o.listen.limits.connections, "Connections at the same time")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add("--max-connections-per-address", o.listen.limits.connections_per_address,
      "Of these, from one address beyond this machine")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add("--max-body", o.settings.body_limit, "Most bytes of a request's body, as 32MiB")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(int64_t{1024}, int64_t{1} << 30))
      ->capture_default_str();
  const auto seconds = [&](const char* name, int64_t& field, const char* help) {
    add(name, field, help)->check(CLI::Range(int64_t{1}, int64_t{3600}))->capture_default_str();
  };
  seconds("--header-timeout", o.header_timeout, "Seconds for the header of a request");
  seconds("--body-timeout", o.body_timeout, "Seconds for its body");
  seconds("--write-timeout", o.write_timeout,
          "Seconds after which a reader that takes nothing is given up");
  seconds("--idle-timeout", o.idle_timeout, "Seconds a connection is kept for another request");
  add("--sse-ping", o.sse_ping, "Seconds after which a silent stream gets a comment; 0: never")
      ->check(CLI::Range(int64_t{0}, int64_t{86400}))
      ->capture_default_str();
  add("--stream-pause", o.stream_pause,
      "Milliseconds between writes to one stream: tokens that come faster share one, but the first "
      "and the last never wait. auto: 10 where the CPU computes, which writes take time from, else "
      "1. 0: each token at once")
      ->check(CLI::Range(0, 1000))
      ->default_str("auto");
  add("--drain", o.drain, "Seconds that running requests get to end after SIGTERM or Ctrl-C")
      ->check(CLI::Range(int64_t{0}, int64_t{86400}))
      ->capture_default_str();
}

void add_request_options(CLI::App& command, ServeOptions& o) {
  const char* group = "Requests";
  const auto add = [&](const char* name, auto& field, const char* help) {
    return command.add_option(name, field, help)->group(group);
  };
  const auto flag = [&](const char* name, bool& field, const char* help) {
    command.add_flag(name, field, help)->group(group);
  };
  add("--queue-timeout", o.queue_timeout, "Seconds a request may wait; 0: any time")
      ->check(CLI::Range(int64_t{0}, int64_t{86400}))
      ->capture_default_str();
  add("--request-timeout", o.request_timeout, "Seconds a request may take; 0: any time")
      ->check(CLI::Range(int64_t{0}, int64_t{86400}))
      ->capture_default_str();
  add("--served-model-name", o.served_name, "The name of the model; not given: that of MODEL");
  add("--alias", o.aliases, "A further name of it");
  flag("--any-model-name", o.settings.any_model_name, "Answer whatever model is asked for");
  add("--thinking", o.thinking, "Thinking where the request does not say")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  add("--reasoning-field", o.reasoning_field,
      "Where thoughts are sent: reasoning, reasoning_content, or both")
      ->check(CLI::IsMember({"both", "reasoning", "reasoning_content"}))
      ->capture_default_str();
  add("--effort-budget", o.effort_budgets,
      "Most tokens of thought at a level of reasoning effort, as low=512,high=8192; a request's "
      "own "
      "thinking_token_budget goes first. Levels: minimal, low, medium, high, xhigh, max")
      ->delimiter(',');
  flag("--tool-schema", o.tool_schema, "Arguments of calls follow their schema, strict or not");
  add("--tool-stream", o.tool_stream,
      "Arguments of calls are streamed in pieces as they come, or whole")
      ->check(CLI::IsMember({"pieces", "whole"}))
      ->capture_default_str();
  add("--generation-config", o.generation_config,
      "Sampling where the request does not say: auto, as the model's generation_config.json; none, "
      "neutral")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
  add("--template", o.chat_template, "Which published chat template")
      ->check(CLI::IsMember({"auto", "july2026", "april2026"}))
      ->capture_default_str();
  flag("--template-exact", o.template_exact, "The template as published, its slip included");
  flag("--strict-fields", o.settings.strict_fields, "Refuse unknown fields");
  flag("--strict-max-tokens", o.settings.strict_max_tokens,
       "Refuse max_tokens beyond what the context leaves, instead of lowering it");
  flag("--no-v1-alias", o.no_v1_alias, "No POST routes without the prefix /v1");
  flag("--no-web", o.no_web, "No web page at /");
}

void add_operation_options(CLI::App& command, ServeOptions& o) {
  const char* group = "Operation";
  command
      .add_flag("--admin-api", o.settings.admin_api,
                "Routes to abort requests and to drop the prefix cache, for keys marked admin")
      ->group(group);
  command.add_flag("--metrics-open", o.settings.metrics_open, "/metrics needs no key")
      ->group(group);
  command
      .add_option("--metrics-alias", o.metrics_aliases,
                  "/metrics also has the names of: vllm, sglang, or both as vllm,sglang")
      ->delimiter(',')
      ->check(CLI::IsMember({"vllm", "sglang"}))
      ->group(group);
}

std::string name_of_model(const std::string& model) {
  std::filesystem::path path = std::filesystem::path(model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

constexpr std::array<std::pair<std::string_view, LogLevel>, 4> kLogLevels = {
    {{"debug", LogLevel::kDebug},
     {"info", LogLevel::kInfo},
     {"warning", LogLevel::kWarning},
     {"error", LogLevel::kError}}};

void set_log_level(const std::string& name) {
  for (const auto& [level_name, level] : kLogLevels) {
    if (level_name == name) return facet::set_log_level(level);
  }
  throw Error(
      ErrorCode::kUsage,
      fmt::format("--log-level '{}': wanted debug, info, warning or error", printable(name, 40)));
}

EffortBudgets read_budgets(const std::vector<std::string>& given) {
  EffortBudgets budgets;
  for (const std::string& one : given) {
    const size_t equals = std::min(one.find('='), one.size());
    const std::string level = one.substr(0, equals);
    const char* begin = one.data() + std::min(equals + 1, one.size());
    int32_t tokens = -1;
    const auto [end, fault] = std::from_chars(begin, one.data() + one.size(), tokens);
    // "none" is off.
    const bool known =
        std::find(kEffortLevels.begin() + 1, kEffortLevels.end(), level) != kEffortLevels.end();
    if (!known || fault != std::errc() || end != one.data() + one.size() || tokens < 0) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--effort-budget '{}': wanted LEVEL=TOKENS, as low=512; levels are "
                              "minimal, low, medium, high, xhigh and max",
                              printable(one, 40)));
    }
    if (!budgets.emplace(level, tokens).second) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--effort-budget '{}': the level {} is there twice",
                              printable(one, 40), level));
    }
  }
  return budgets;
}

}  // namespace

void add_engine_options(CLI::App& command, ServeOptions& o) {
  const char* group = "Room";
  const auto add = [&](const char* name, auto& field, const char* help) {
    return command.add_option(name, field, help)->group(group);
  };
  add("--max-model-len", o.max_model_len,
      "Tokens of one request, prompt and answer; 0: what the model and the memory permit")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  add("--max-running", o.max_running, "Answers generated at the same time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  add("--max-queue", o.max_queue, "Requests that wait; more are refused with 503")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  add("--max-queue-tokens", o.max_queue_tokens, "The same, in prompt tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  add("--memory-fraction", o.memory_fraction,
      "Share of the free memory for weights and keys and values")
      ->check(CLI::Range(0.05, 1.0))
      ->capture_default_str();
  add("--kv-memory", o.kv_memory,
      "Bytes for keys and values, as 6GB or 4GiB; 0: by --memory-fraction")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 50))
      ->excludes("--memory-fraction")
      ->capture_default_str();
  command
      .add_flag("--no-prefix-cache", o.no_prefix_cache,
                "Compute every prompt as a whole, also where an earlier one began the same")
      ->group(group);
  add("--schedule", o.schedule, "Who runs first: fcfs, as they came; priority, lower numbers")
      ->check(CLI::IsMember({"fcfs", "priority"}))
      ->capture_default_str();
}

void add_serve_options(CLI::App& command, ServeOptions& options) {
  add_config_option(command, options.config_file, [&] {
    options.log_level_given = command.get_option("--log-level")->count() > 0;
  });
  add_model_options(command, options.model);
  add_listen_options(command, options);
  add_engine_options(command, options);
  add_request_options(command, options);
  add_operation_options(command, options);
  command
      .add_option("--log-level", options.log_level,
                  "What is logged to stderr: debug, info, warning or error. SIGHUP takes it "
                  "from the --config file again, unless it was given here")
      ->capture_default_str();
}

std::string reload_log_level(const ServeOptions& options) {
  if (options.config_file.empty() || options.log_level_given) return options.log_level;
  std::string level =
      config_value(options.config_file, "log-level").value_or(ServeOptions().log_level);
  set_log_level(level);
  return level;
}

KeyRing check_serve_options(ServeOptions& o) {
  set_log_level(o.log_level);
  if (o.key_file.empty() && o.settings.key_limits.per_minute + o.settings.key_limits.concurrent > 0)
    throw Error(ErrorCode::kUsage, "--key-per-minute and --key-concurrent go with --api-key-file");
  o.settings.effort_budgets = read_budgets(o.effort_budgets);
  if (o.listen.tls_certificate.empty() != o.listen.tls_key.empty())
    throw Error(ErrorCode::kUsage, "--tls-cert and --tls-key go together");
  KeyRing keys = o.key_file.empty() ? KeyRing() : KeyRing::load(o.key_file);
  const bool local = !o.listen.unix_socket.empty() || http::is_loopback(o.listen.host);
  if (!local && keys.empty()) {
    throw Error(ErrorCode::kUnsafeSettings,
                fmt::format("--host {} is open to other machines: --api-key-file is needed",
                            printable(o.listen.host, 80)));
  }
  if (!local && geteuid() == 0) {
    throw Error(ErrorCode::kUnsafeSettings,
                fmt::format("--host {} is open to other machines: not as root",
                            printable(o.listen.host, 80)));
  }
  if (!local && o.listen.tls_certificate.empty() && !o.behind_proxy) {
    log_warning("serve", "keys and texts travel in the clear: use --tls-cert, or --behind-proxy");
  }
  if (local && geteuid() == 0) log_warning("serve", "running as root; any user will do");
  ServerSettings& settings = o.settings;
  settings.check_host = local && o.listen.unix_socket.empty();
  settings.names = {o.served_name.empty() ? name_of_model(o.model.model) : o.served_name};
  settings.names.insert(settings.names.end(), o.aliases.begin(), o.aliases.end());
  settings.v1_alias = o.no_v1_alias ? V1Alias::kNo : V1Alias::kYes;
  settings.web = !o.no_web;
  for (const std::string& name : o.metrics_aliases)
    (name == "vllm" ? settings.metrics_aliases.vllm : settings.metrics_aliases.sglang) = true;
  if (o.reasoning_field == "reasoning") settings.reasoning_field = ReasoningField::kReasoning;
  if (o.reasoning_field == "reasoning_content")
    settings.reasoning_field = ReasoningField::kReasoningContent;
  if (o.tool_stream == "whole") settings.tool_stream = ToolStream::kWhole;
  if (o.tool_schema) settings.tool_schema = ToolSchema::kAlways;
  http::Limits& limits = o.listen.limits;
  limits.head_time = std::chrono::seconds(o.header_timeout);
  limits.body_time = std::chrono::seconds(o.body_timeout);
  limits.stall_time = std::chrono::seconds(o.write_timeout);
  limits.idle_time = std::chrono::seconds(o.idle_timeout);
  settings.sse_ping = std::chrono::seconds(o.sse_ping);
  settings.queue_timeout = std::chrono::seconds(o.queue_timeout);
  settings.request_timeout = std::chrono::seconds(o.request_timeout);
  return keys;
}

}  // namespace facet::cli
