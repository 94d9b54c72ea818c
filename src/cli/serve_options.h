#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "server/http/listener.h"
#include "server/keys.h"
#include "server/served_model.h"

namespace facet::cli {

/// The flags of `serve`.
struct ServeOptions {
  ModelOptions model;
  http::ListenOptions listen;
  ServerSettings settings;
  std::string served_name;
  std::vector<std::string> aliases;
  std::string config_file;  ///< empty: none
  std::string key_file;
  std::string chat_template = "auto";
  std::string generation_config = "auto";
  std::string schedule = "fcfs";
  std::string thinking = "off";
  std::string reasoning_field = "both";
  std::string tool_stream = "pieces";
  std::string log_level = "info";
  bool log_level_given = false;  ///< on the command line: the config file's is not looked at
  std::vector<std::string> effort_budgets;  ///< "low=512"
  std::string described = "{}";             ///< describe_settings()
  std::vector<std::string> metrics_aliases;
  bool template_exact = false;
  bool no_v1_alias = false;
  bool no_web = false;
  bool tool_schema = false;
  bool behind_proxy = false;
  bool no_prefix_cache = false;
  int32_t max_model_len = 0;
  int32_t max_running = 64;
  int32_t max_queue = 8192;
  int64_t max_queue_tokens = int64_t{1} << 24;
  double memory_fraction = 0.90;
  int64_t kv_memory = 0;  ///< bytes; 0: by memory_fraction
  int64_t sse_ping = 30;
  std::optional<int32_t> stream_pause;  ///< milliseconds; none: by what computes
  int64_t queue_timeout = 0;
  int64_t request_timeout = 0;
  int64_t drain = 30;
  int64_t header_timeout = 10;
  int64_t body_timeout = 60;
  int64_t write_timeout = 30;
  int64_t idle_timeout = 60;
};

void add_serve_options(CLI::App& command, ServeOptions& options);
/// Of these the ones that say how much room the engine has, and in which order it serves.
void add_engine_options(CLI::App& command, ServeOptions& options);

/// Sets the log's level to what the config file says now, unless there is none or the command line
/// gave the level. Returns the level's name. Throws Error{kUsage} and leaves it as it is.
std::string reload_log_level(const ServeOptions& options);

/// Fills in what follows from several flags and refuses what would expose the user: throws
/// Error{kUsage} for flags that contradict, Error{kUnsafeSettings} for a port open to others
/// without keys, or as root. Warns where keys would travel in the clear. Returns the keys.
KeyRing check_serve_options(ServeOptions& options);

}  // namespace facet::cli
