// A server under load, over HTTP.

#include "cli/bench_serve.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fmt/ranges.h>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/bench_load.h"
#include "cli/client_key.h"
#include "cli/model_text.h"
#include "traffic/answer_reader.h"
#include "traffic/http_run.h"

namespace facet::cli {
namespace {

namespace json = boost::json;

struct Options {
  LoadOptions load;
  std::string url = "http://127.0.0.1:8000";
  std::string unix_socket;
  std::string key_file;
  std::string model;
  std::string tokenizer;
  bool chat = false;
  double timeout = 3600;
};

/// The server, and what it says of itself.
class Server {
 public:
  explicit Server(const Options& options)
      : url_(http::Url::parse(options.url)), place_(url_.authority()) {
    if (url_.tls) {
      throw Error(ErrorCode::kUsage, "--url: https is not spoken here, wanted http://HOST:PORT");
    }
    const std::string key = client_key(options.key_file);
    if (!key.empty()) fields_.emplace_back("Authorization", "Bearer " + key);
    if (options.unix_socket.empty()) {
      endpoint_ = http::reachable_endpoint(url_);
    } else {
      endpoint_ = http::reachable_endpoint(options.unix_socket);
      url_ = http::Url::parse("http://localhost");
      place_ = options.unix_socket;
    }
    ask_model(options.model);
    ask_fingerprint();
    ask_kernels();
  }

  const http::Endpoint& endpoint() const { return endpoint_; }
  const std::string& place() const { return place_; }
  const std::string& model() const { return model_; }
  const std::string& folder() const { return folder_; }
  const std::string& fingerprint() const { return fingerprint_; }
  const json::array& kernels() const { return kernels_; }

  std::string post(const char* path, const json::object& body) const {
    http::ClientRequest request{"POST", path, fields_, json::serialize(body)};
    request.headers.emplace_back("Content-Type", "application/json");
    return http::request_bytes(url_, request);
  }

 private:
  /// The first model it names, or the wanted one, and the folder that it lies in.
  void ask_model(const std::string& wanted) {
    model_ = wanted;
    const http::ClientAnswer answer = http::fetch(
        endpoint_, http::request_bytes(url_, {"GET", "/v1/models", fields_, {}}), place_);
    if (answer.status != 200) {
      throw Error(ErrorCode::kIo,
                  fmt::format("answered /v1/models with status {}: {}", answer.status,
                              printable(error_message(answer.body))),
                  place_);
    }
    json::error_code fault;
    const json::value body = json::parse(answer.body, fault);
    const json::value* list = fault              ? nullptr
                              : body.if_object() ? body.get_object().if_contains("data")
                                                 : nullptr;
    if (list == nullptr || !list->is_array()) return;
    for (const json::value& one : list->get_array()) {
      const json::object* entry = one.if_object();
      const json::value* id = entry == nullptr ? nullptr : entry->if_contains("id");
      if (id == nullptr || !id->is_string()) continue;
      if (!model_.empty() && id->get_string() != model_) continue;
      model_ = id->get_string();
      const json::value* root = entry->if_contains("root");
      if (root != nullptr && root->is_string()) folder_ = root->get_string();
      return;
    }
  }

  /// As /v1/completions writes it; a server without it has none.
  void ask_fingerprint() {
    const http::ClientAnswer answer = http::fetch(
        endpoint_,
        post("/v1/completions",
             {{"model", model_}, {"prompt", "Hello"}, {"max_tokens", 1}, {"temperature", 0}}),
        place_);
    json::error_code fault;
    const json::value body = json::parse(answer.body, fault);
    if (answer.status != 200 || fault || !body.is_object()) return;
    const json::value* found = body.get_object().if_contains("system_fingerprint");
    if (found != nullptr && found->is_string()) fingerprint_ = found->get_string();
  }

  /// As /server_info writes them; a server without them has none.
  void ask_kernels() {
    const http::ClientAnswer answer = http::fetch(
        endpoint_, http::request_bytes(url_, {"GET", "/server_info", fields_, {}}), place_);
    json::error_code fault;
    const json::value body = json::parse(answer.body, fault);
    if (answer.status != 200 || fault || !body.is_object()) return;
    const json::value* found = body.get_object().if_contains("kernels");
    if (found != nullptr && found->is_array()) kernels_ = found->get_array();
  }

  http::Url url_;
  std::string place_;
  std::vector<std::pair<std::string, std::string>> fields_;
  http::Endpoint endpoint_;
  std::string model_;
  std::string folder_;
  std::string fingerprint_;
  json::array kernels_;
};

std::string chat_request(const Server& server, const PlannedRequest& request, AnswerEnd end) {
  json::object body = {
      {"model", server.model()},
      {"messages", json::parse(request.messages)},
      {"max_tokens", request.max_tokens},
      {"temperature", 0},
      {"stream", true},
      {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}};
  if (end == AnswerEnd::kAtLength) body["ignore_eos"] = true;
  return server.post("/v1/chat/completions", body);
}

std::string generate_request(const Server& server, const PlannedRequest& request, AnswerEnd end) {
  if (!request.messages.empty())
    throw Error(ErrorCode::kUsage, "a prompt is a chat (messages): --chat is needed");
  json::object sampling = {{"max_new_tokens", request.max_tokens}, {"temperature", 0}};
  if (end == AnswerEnd::kAtLength) sampling["ignore_eos"] = true;
  json::object body = {{"sampling_params", std::move(sampling)}, {"stream", true}};
  if (request.ids.empty()) {
    body["text"] = request.text;
  } else {
    body["input_ids"] = json::array(request.ids.begin(), request.ids.end());
  }
  return server.post("/generate", body);
}

RunRecords run_against(const Server& server, const Options& options, LoadRun run) {
  HttpRun http;
  http.endpoint = server.endpoint();
  for (const PlannedRequest& request : run.requests) {
    const bool exact = run.answer_end == AnswerEnd::kAtLength;
    http.requests.push_back({options.chat ? chat_request(server, request, run.answer_end)
                                          : generate_request(server, request, run.answer_end),
                             exact ? request.max_tokens : 0});
  }
  http.arrivals = std::move(run.arrivals);
  http.concurrency = run.concurrency;
  http.timeout_s = options.timeout;
  http.on_progress = std::move(run.on_progress);
  return run_over_http(std::move(http));
}

Tokenizer tokenizer_for(const Server& server, const Options& options) {
  if (!options.tokenizer.empty()) return load_tokenizer(options.tokenizer);
  std::error_code ignored;
  if (std::filesystem::is_directory(server.folder(), ignored))
    return load_tokenizer(server.folder());
  throw Error(ErrorCode::kUsage,
              fmt::format("the server's model folder '{}' is not on this machine: random prompts "
                          "need --tokenizer, a folder with its tokenizer.json (or use --prompts)",
                          printable(server.folder())));
}

void bench_serve(const Options& options) {
  const LoadBench bench(options.load);
  raise_descriptor_limit();  // each request has its connection
  const Server server(options);
  std::optional<Tokenizer> tokenizer;
  if (bench.makes_prompts()) tokenizer = tokenizer_for(server, options);
  LoadTarget target;
  target.name =
      fmt::format("{} at {}", options.chat ? "/v1/chat/completions" : "/generate", server.place());
  target.model = server.model();
  target.fingerprint = server.fingerprint();
  target.kernels = server.kernels();
  target.form = options.chat ? PromptForm::kChat : PromptForm::kIds;
  target.tokenizer = tokenizer ? &*tokenizer : nullptr;
  target.run = [&](LoadRun run) { return run_against(server, options, std::move(run)); };
  bench.run(target);
}

}  // namespace

void add_bench_serve(CLI::App& bench, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = bench.add_subcommand(
      "serve", "Put a running server under load and report throughput and latency");
  command->add_option("--url", options->url, "Where the server listens, without /v1")
      ->capture_default_str();
  command->add_option("--uds", options->unix_socket, "The Unix socket it listens on instead");
  add_client_key_option(*command, options->key_file);
  command->add_option("--model", options->model, "As the server calls it; not given: its first");
  command->add_option("--tokenizer", options->tokenizer,
                      "A folder with the model's tokenizer.json, or a bundled model, to make "
                      "prompts with; not given: the folder that the server names, if it is here");
  command->add_flag("--chat", options->chat,
                    "Send chats to /v1/chat/completions, not ids to /generate; the template's own "
                    "tokens then come on top of --input-len");
  command->add_option("--timeout", options->timeout, "Seconds for one request")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  add_load_options(*command, options->load);
  command->footer(
      "Answers are streamed and greedy, each over a connection of its own. Times are those of this "
      "side; only requests that got all their tokens count. Ctrl-C prints what is known so far.");
  command->callback([options, &chosen] { chosen = [options] { bench_serve(*options); }; });
}

}  // namespace facet::cli
