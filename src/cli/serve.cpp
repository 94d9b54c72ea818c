#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <memory>
#include <optional>
#include <sys/resource.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/fingerprint.h"
#include "cli/loaded_model.h"
#include "cli/model_text.h"
#include "cli/sampling_options.h"
#include "cli/serve_lifecycle.h"
#include "cli/serve_options.h"
#include "cli/served.h"
#include "cli/served_info.h"

namespace facet::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// Threads that parse and tokenise large bodies.
constexpr int32_t kHelpers = 1;

/// A hundred writes a second look as smooth as a thousand. Where the CPU computes, what they take,
/// here and at a client beside it, is taken from the model (docs/serving.md).
constexpr std::chrono::milliseconds kPauseOfCpu{10};

void set_pause(http::Loop& loop, const ServeOptions& options) {
  std::optional<std::chrono::milliseconds> pause;
  if (options.stream_pause) {
    pause.emplace(*options.stream_pause);
  } else if (!computes_on_cuda(options.model)) {
    pause = kPauseOfCpu;
  }
  if (pause) loop.post([&loop, pause] { loop.set_pause(*pause); });
}

/// Prompts lie in memory and must not reach a disk.
void forbid_core_files() {
  const struct rlimit none {};
  (void)setrlimit(RLIMIT_CORE, &none);
}

/// The loop runs while this lives.
class Running {
 public:
  explicit Running(http::Loop& loop) : loop_(loop) { loop_.start(); }
  ~Running() { loop_.stop(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  http::Loop& loop_;
};

void reload(Service& service, const ServeOptions& options) {
  try {
    log_info("serve", "log level={}", reload_log_level(options));
  } catch (const Error& error) {
    log_warning("serve", "log level kept as it is: {}", error.what());
  }
  if (options.key_file.empty()) return;
  try {
    KeyRing keys = KeyRing::load(options.key_file);
    log_info("serve", "keys reloaded count={}", keys.size());
    service.replace_keys(std::move(keys));
  } catch (const Error& error) {
    log_warning("serve", "keys kept as they are: {}", error.what());
  }
}

void print_summary(const ServeOptions& options,
                   LoadedModel& loaded,
                   const ServedModel& served,
                   const Engine& engine,
                   const std::string& url) {
  const EngineLimits& limits = engine.limits();
  const auto line = [](const char* name, const std::string& text) {
    print_note("{:<16}{}\n", name, text);
  };
  line("model", fmt::format("{} ({}), fingerprint {}", printable(served.folder),
                            served.quantization, served.fingerprint));
  line("weights", fmt::format("{} in files, {}", human_bytes(loaded.checkpoint().file_bytes()),
                              loaded.backend().describe()));
  for (const std::string& text : describe_pages(options, loaded, engine.status()))
    line("keys, values", text);
  line("largest request", fmt::format("{} tokens, prompt and answer ({})", limits.max_model_len,
                                      why_model_len(options, loaded, limits)));
  line("at one time",
       fmt::format("{} answers running, {} requests waiting with {} prompt tokens in all",
                   limits.max_running, limits.max_queue, limits.max_queue_tokens));
  line("connections", fmt::format("{}, bodies of at most {}", options.listen.limits.connections,
                                  human_bytes(options.settings.body_limit)));
  line("thinking", options.thinking + " where the request does not say");
  line("metrics", fmt::format("/metrics{}{}", options.settings.metrics_open ? ", open to all" : "",
                              options.settings.admin_api ? "; admin routes are on" : ""));
  line("address", url);
  const bool tcp = options.listen.unix_socket.empty();
  if (tcp && options.settings.web) line("web page", url + "/");
  print_note(
      "\n  curl {}{}/v1/chat/completions {}-H 'Content-Type: application/json' \\\n"
      "    -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n\n",
      tcp ? "" : fmt::format("--unix-socket {} ", url), tcp ? url : "http://localhost",
      options.key_file.empty() ? "" : "-H 'Authorization: Bearer KEY' ");
}

void serve(ServeOptions& options) {
  const auto start = Clock::now();
  KeyRing keys = check_serve_options(options);
  raise_descriptor_limit();  // each connection takes a descriptor
  forbid_core_files();
  find_model(options.model.model);  // a wrong name is told before the port opens
  std::signal(SIGPIPE, SIG_IGN);    // a peer that is gone is an error of its write
  http::Loop loop(kHelpers);
  Service service(loop, options.settings, std::move(keys));
  http::Listener listener(loop, service, options.listen);
  ServeLifecycle lifecycle(loop, service, listener, std::chrono::seconds(options.drain),
                           [&] { reload(service, options); });
  log_info("serve", "listening url={}", listener.url());
  // The loop stops before what it uses goes.
  std::optional<LoadedModel> loaded;
  std::unique_ptr<ServedModel> served;
  std::optional<Engine> engine;
  const Running running(loop);
  loaded.emplace(options.model, options.max_running, cache_wish(options));
  const TensorSums sums = loaded->warm_up([&](int64_t done, int64_t total) {
    service.set_progress(static_cast<int32_t>(100 * done / std::max<int64_t>(total, 1)));
  });
  served = served_model(options, *loaded);
  loaded->phases().end("tokenizer");
  in_place("keys and values (see --kv-memory, --max-model-len)", [&] {
    engine.emplace(loaded->model(), loaded->backend(), engine_options(options, *loaded));
  });
  loaded->phases().end("engine");
  served->max_model_len = engine->limits().max_model_len;
  const std::string mode =
      numeric_mode(options, kv_dtype(options.model, loaded->quant()), served->max_model_len);
  served->fingerprint = fingerprint_of(checkpoint_digest(loaded->checkpoint(), sums), mode);
  served->info = served_info(options, *loaded, *engine);
  log_info("serve", "loaded {}", loaded->phases().text());
  served->info.load_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  set_pause(loop, options);
  service.serve(*served, *engine);
  lifecycle.serving(*engine);
  print_summary(options, *loaded, *served, *engine, listener.url());
  print_note("ready in {:.1f} s\n", std::chrono::duration<double>(Clock::now() - start).count());
  if (lifecycle.wait() == ServeLifecycle::End::kEngineFailed)
    throw Error(ErrorCode::kInternal, "the engine has failed");
  log_info("serve", "drained");
}

}  // namespace

void add_serve(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<ServeOptions>();  // shared with the callback, which outlives this
  CLI::App* command = app.add_subcommand("serve", "Serve MODEL over HTTP, in the OpenAI shape");
  add_serve_options(*command, *options);
  command->footer(
      "The port is open at once; until the weights are read, requests are answered with 503.\n"
      "SIGTERM or Ctrl-C ends it when running requests are done, a second one at once; SIGHUP\n"
      "reads the key file again, and log-level of the --config file.");
  command->callback([options, command, &chosen] {
    options->described = describe_settings(*command);
    chosen = [options] { serve(*options); };
  });
}

}  // namespace facet::cli
