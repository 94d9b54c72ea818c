// GET /metrics (server-api 11.2): what was sent is what is counted.

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <sstream>
#include <sys/stat.h>
#include <thread>

#include "tests/e2e/server.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::chat_body;
using test::HttpAnswer;
using test::kChat;
using test::TestServer;
using test::Wire;
using testing::HasSubstr;

/// Samples by name and labels, model_name left out: "a_total{code=\"x\"}".
class Metrics {
 public:
  explicit Metrics(const TestServer& server) {
    const HttpAnswer answer = server.request("GET", "/metrics");
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(answer.fields.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    std::istringstream lines(answer.body);
    for (std::string line; std::getline(lines, line);) add(line);
  }

  double at(const std::string& name) const {
    const auto found = samples_.find(name);
    if (found != samples_.end()) return found->second;
    ADD_FAILURE() << "no sample " << name;
    return -1;
  }
  const std::string& type(const std::string& name) const {
    static const std::string none = "none";
    const auto found = types_.find(name);
    return found != types_.end() ? found->second : none;
  }
  /// The borders of a histogram, as written.
  std::string borders(const std::string& name) const {
    std::string all;
    for (const std::string& sample : order_) {
      const std::string begin = name + "_bucket{le=\"";
      if (!sample.starts_with(begin)) continue;
      const std::string border = sample.substr(begin.size(), sample.size() - begin.size() - 2);
      all += all.empty() ? border : " " + border;
    }
    return all;
  }

 private:
  void add(const std::string& line) {
    if (line.starts_with("# TYPE ")) {
      const size_t blank = line.find(' ', 7);
      const bool fresh = types_.emplace(line.substr(7, blank - 7), line.substr(blank + 1)).second;
      EXPECT_TRUE(fresh) << "announced twice: " << line;
    }
    if (line.starts_with("#")) return;
    const size_t blank = line.rfind(' ');
    std::string name = line.substr(0, blank);
    const std::string label = "model_name=\"fable\"";
    const size_t at = name.find(label);
    ASSERT_NE(at, std::string::npos) << line;
    name.erase(at, label.size() + (name[at + label.size()] == ',' ? 1 : 0));
    if (name.ends_with("{}")) name.resize(name.size() - 2);
    EXPECT_TRUE(samples_.emplace(name, std::stod(line.substr(blank + 1))).second) << line;
    order_.push_back(name);
  }

  std::map<std::string, double> samples_;
  std::map<std::string, std::string> types_;
  std::vector<std::string> order_;
};

/// What the answers said.
struct Sent {
  int64_t requests = 0;
  int64_t choices = 0;
  int64_t prompt = 0;
  int64_t cached = 0;
  int64_t generated = 0;

  void add(const json::value& usage, int64_t its_choices) {
    ++requests;
    choices += its_choices;
    prompt += usage.at("prompt_tokens").as_int64();
    cached += usage.at("prompt_tokens_details").at("cached_tokens").as_int64();
    generated += usage.at("completion_tokens").as_int64();
  }
};

class ServeMetrics : public testing::Test {
 protected:
  json::value chat(const std::string& more, int64_t choices = 1) {
    const HttpAnswer answer = server_.post(kChat, chat_body(more));
    EXPECT_EQ(answer.status, 200) << answer.body;
    sent_.add(answer.json().at("usage"), choices);
    return answer.json();
  }

  TestServer server_{{"--metrics-alias", "vllm,sglang", "--admin-api"}};
  Sent sent_;
};

TEST_F(ServeMetrics, CountersEqualWhatWasSent) {
  // Longer than a page, so that the cache has something of it.
  const std::string fixed = fmt::format(
      R"(,"tools":[{{"type":"function","function":{{"name":"f","description":"{}"}}}}],)"
      R"("ignore_eos":true,"seed":1)",
      std::string(1000, 'a'));
  for (int i = 0; i < 3; ++i) chat(fixed + R"(,"max_tokens":5)");
  chat(fixed + R"(,"max_tokens":4,"n":2)", 2);
  const HttpAnswer streamed =
      server_.post(kChat, chat_body(fixed + R"(,"max_tokens":6,"stream":true,)"
                                            R"("stream_options":{"include_usage":true})"));
  sent_.add(test::events_of(streamed.body).all.back().at("usage"), 1);
  const Metrics metrics(server_);
  EXPECT_EQ(sent_.generated, 3 * 5 + 2 * 4 + 6);
  EXPECT_GT(sent_.cached, 0);
  EXPECT_EQ(metrics.at("engine_requests_total{finish_reason=\"length\"}"), 5);
  EXPECT_EQ(metrics.at("engine_requests_total{finish_reason=\"stop\"}"), 0);
  EXPECT_EQ(metrics.at("engine_requests_cancelled_total"), 0);
  EXPECT_EQ(metrics.at("engine_prompt_tokens_total"), sent_.prompt);
  EXPECT_EQ(metrics.at("engine_generated_tokens_total"), sent_.generated);
  EXPECT_EQ(metrics.at("engine_reasoning_tokens_total"), 0);
  EXPECT_EQ(metrics.at("engine_prefix_cache_queried_tokens_total"), sent_.prompt);
  EXPECT_EQ(metrics.at("engine_prefix_cache_hit_tokens_total"), sent_.cached);
  EXPECT_EQ(metrics.at("engine_preemptions_total"), 0);
  EXPECT_EQ(metrics.at("engine_time_to_first_token_seconds_count"), 5);
  EXPECT_EQ(metrics.at("engine_inter_token_seconds_count"), sent_.generated - sent_.choices);
  for (const char* name : {"request", "queue", "prefill", "decode"})
    EXPECT_EQ(metrics.at(fmt::format("engine_{}_seconds_count", name)), 5) << name;
  EXPECT_EQ(metrics.at("engine_request_prompt_tokens_sum"), sent_.prompt);
  EXPECT_EQ(metrics.at("engine_request_generated_tokens_sum"), sent_.generated);
  // A choice's last token is not read again.
  EXPECT_EQ(metrics.at("engine_step_tokens_sum"),
            sent_.prompt - sent_.cached + sent_.generated - sent_.choices);
  EXPECT_EQ(metrics.at("engine_step_tokens_count"), metrics.at("engine_step_seconds_count"));
  EXPECT_GT(metrics.at("engine_step_seconds_sum"), 0);
  EXPECT_GE(metrics.at("engine_request_seconds_sum"), metrics.at("engine_step_seconds_sum") / 2);
}

TEST_F(ServeMetrics, EndsOfEveryKindAreToldApart) {
  const std::string whole(chat(R"(,"max_tokens":12,"temperature":0)")
                              .at("choices")
                              .at(0)
                              .at("message")
                              .at("content")
                              .as_string());
  const std::string word = whole.substr(whole.find(' ') + 1, 3);
  chat(fmt::format(R"(,"max_tokens":40,"temperature":0,"stop":["{}"])", word));
  EXPECT_EQ(server_.post(kChat, chat_body(R"(,"temperature":11)")).code(), "invalid_value");
  EXPECT_EQ(server_.post(kChat, chat_body(R"(,"n":0)")).code(), "invalid_value");
  EXPECT_EQ(server_.post(kChat, chat_body(R"(,"model":"other")")).code(), "model_not_found");
  EXPECT_EQ(server_.post(kChat, "{").code(), "invalid_json");
  EXPECT_EQ(server_.request("GET", "/nothing").code(), "unknown_url");
  EXPECT_EQ(server_.post("/v1/embeddings", "{}").code(), "unsupported_endpoint");
  Wire gone = server_.connect();
  gone.send(test::http_request("POST", kChat, chat_body(test::kLongStream)));
  ASSERT_TRUE(gone.read_until("content"));
  gone.reset();
  ASSERT_TRUE(server_.becomes_idle());
  Wire aborted = server_.connect();
  aborted.send(test::http_request("POST", kChat, chat_body(test::kLong), "X-Request-Id: me\r\n"));
  ASSERT_TRUE(server_.becomes_busy());
  EXPECT_EQ(server_.post("/abort_request", R"({"rid":"me"})").body, R"({"aborted":1})");
  const json::value cut = aborted.read_answer().json();
  EXPECT_EQ(cut.at("choices").at(0).at("finish_reason").as_string(), "abort");
  ASSERT_TRUE(server_.becomes_idle());
  const Metrics metrics(server_);
  EXPECT_EQ(metrics.at("engine_requests_total{finish_reason=\"stop\"}"), 1);
  EXPECT_EQ(metrics.at("engine_requests_total{finish_reason=\"length\"}"), 1);
  EXPECT_EQ(metrics.at("engine_requests_total{finish_reason=\"abort\"}"), 1);
  EXPECT_EQ(metrics.at("engine_requests_cancelled_total"), 1);
  EXPECT_EQ(metrics.at("engine_requests_refused_total{code=\"invalid_value\"}"), 2);
  for (const char* code :
       {"model_not_found", "invalid_json", "unknown_url", "unsupported_endpoint"})
    EXPECT_EQ(metrics.at(fmt::format("engine_requests_refused_total{{code=\"{}\"}}", code)), 1);
  EXPECT_EQ(metrics.at("engine_request_seconds_count"), 3);
  EXPECT_EQ(metrics.at("engine_requests_running"), 0);
  EXPECT_EQ(metrics.at("engine_requests_waiting"), 0);
  EXPECT_EQ(metrics.at("engine_kv_usage_ratio"), 0);
  EXPECT_EQ(metrics.at("engine_kv_pages_free{group=\"full\"}"),
            metrics.at("engine_kv_pages_total{group=\"full\"}"));
}

TEST_F(ServeMetrics, GaugesFollowWhatRuns) {
  EXPECT_EQ(Metrics(server_).at("engine_generation_tokens_per_second"), 0);
  const Wire busy = server_.occupy();
  Metrics metrics(server_);
  for (int i = 0; i < 500 && metrics.at("engine_generated_tokens_total") < 16; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    metrics = Metrics(server_);
  }
  EXPECT_EQ(metrics.at("engine_requests_running"), 1);
  EXPECT_GT(metrics.at("engine_generation_tokens_per_second"), 0);
  const double usage = metrics.at("engine_kv_usage_ratio");
  EXPECT_GT(usage, 0);
  EXPECT_LT(usage, 1);
  EXPECT_EQ(usage, std::max(metrics.at("engine_kv_usage_ratio{group=\"full\"}"),
                            metrics.at("engine_kv_usage_ratio{group=\"sliding\"}")));
  EXPECT_LT(metrics.at("engine_kv_pages_free{group=\"sliding\"}"),
            metrics.at("engine_kv_pages_total{group=\"sliding\"}"));
}

TEST_F(ServeMetrics, EverySeriesOfTheTableIsThereWithItsAliases) {
  chat(R"(,"max_tokens":3)");
  server_.request("GET", "/nothing");
  const Metrics metrics(server_);
  const std::map<std::string, std::string> gauges = {
      {"requests_running", "vllm:num_requests_running sglang:num_running_reqs"},
      {"requests_waiting", "vllm:num_requests_waiting sglang:num_queue_reqs"},
      {"kv_usage_ratio",
       "vllm:kv_cache_usage_perc sglang:token_usage sglang:full_token_usage "
       "sglang:swa_token_usage"},
      {"kv_pages_free", "engine_kv_pages_total"},
      {"generation_tokens_per_second",
       "sglang:gen_throughput sglang:cache_hit_rate sglang:spec_accept_length "
       "sglang:spec_accept_rate"},
      {"load_seconds", "sglang:engine_startup_time"},
      {"build_info", "process_resident_memory_bytes process_open_fds"}};
  const std::map<std::string, std::string> counters = {
      {"prefix_cache_queried_tokens_total", "vllm:prefix_cache_queries_total"},
      {"prefix_cache_hit_tokens_total", "vllm:prefix_cache_hits_total sglang:cached_tokens_total"},
      {"prompt_tokens_total", "vllm:prompt_tokens_total sglang:prompt_tokens_total"},
      {"generated_tokens_total", "vllm:generation_tokens_total sglang:generation_tokens_total"},
      {"reasoning_tokens_total", "vllm:reasoning_tokens_total sglang:reasoning_tokens_total"},
      {"requests_total", "vllm:request_success_total sglang:num_requests_total"},
      {"requests_refused_total", ""},
      {"requests_cancelled_total", "sglang:num_aborted_requests_total"},
      {"preemptions_total", "vllm:num_preemptions_total sglang:num_retracted_requests_total"},
      {"spec_drafts_total", "vllm:spec_decode_num_drafts_total"},
      {"spec_draft_tokens_total", "vllm:spec_decode_num_draft_tokens_total"},
      {"spec_accepted_tokens_total", "vllm:spec_decode_num_accepted_tokens_total"},
      {"image_tokens_total", "process_cpu_seconds_total"}};
  const std::map<std::string, std::string> histograms = {
      {"time_to_first_token_seconds",
       "vllm:time_to_first_token_seconds sglang:time_to_first_token_seconds"},
      {"inter_token_seconds",
       "vllm:inter_token_latency_seconds sglang:inter_token_latency_seconds"},
      {"request_seconds", "vllm:e2e_request_latency_seconds sglang:e2e_request_latency_seconds"},
      {"queue_seconds", "vllm:request_queue_time_seconds sglang:queue_time_seconds"},
      {"prefill_seconds", "vllm:request_prefill_time_seconds"},
      {"decode_seconds", "vllm:request_decode_time_seconds"},
      {"request_prompt_tokens", "vllm:request_prompt_tokens"},
      {"request_generated_tokens", "vllm:request_generation_tokens"},
      {"step_tokens", "vllm:iteration_tokens_total"},
      {"step_seconds", ""},
      {"image_seconds", ""}};
  const auto expect_all = [&](const auto& rows, const std::string& type) {
    for (const auto& [own, others] : rows) {
      EXPECT_EQ(metrics.type("engine_" + own), type) << own;
      std::istringstream names(others);
      for (std::string name; names >> name;) EXPECT_EQ(metrics.type(name), type) << name;
    }
  };
  expect_all(gauges, "gauge");
  expect_all(counters, "counter");
  expect_all(histograms, "histogram");
  EXPECT_EQ(metrics.at("vllm:request_success_total{finished_reason=\"length\"}"), 1);
  EXPECT_EQ(metrics.at("sglang:num_requests_total"), 1);
  EXPECT_EQ(metrics.at("vllm:generation_tokens_total"), 3);
  EXPECT_GT(metrics.at("engine_load_seconds"), 0);
  EXPECT_GT(metrics.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(metrics.at("process_cpu_seconds_total"), 0);
  EXPECT_GE(metrics.at("process_open_fds"), 5);
}

TEST_F(ServeMetrics, BordersAreThoseOfTheContract) {
  const Metrics metrics(server_);
  const char* waits =
      "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 "
      "2560 +Inf";
  const char* gaps =
      "0.002 0.005 0.01 0.015 0.02 0.025 0.03 0.04 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 "
      "2.5 5 8 +Inf";
  const char* wholes = "0.1 0.3 0.5 1 2.5 5 10 20 40 60 120 240 480 960 1920 7680 +Inf";
  const char* counts =
      "1 2 5 10 20 50 100 200 500 1000 2000 5000 10000 20000 50000 100000 200000 262144 +Inf";
  EXPECT_EQ(metrics.borders("engine_time_to_first_token_seconds"), waits);
  EXPECT_EQ(metrics.borders("engine_queue_seconds"), waits);
  EXPECT_EQ(metrics.borders("vllm:inter_token_latency_seconds"), gaps);
  EXPECT_EQ(metrics.borders("engine_request_seconds"), wholes);
  EXPECT_EQ(metrics.borders("engine_request_prompt_tokens"), counts);
  EXPECT_EQ(metrics.borders("engine_request_generated_tokens"), counts);
  EXPECT_EQ(metrics.borders("engine_step_tokens"), counts);
}

TEST(ServeMetricsFlags, SequencesThatLoseTheirPagesAreCounted) {
  // 95 pages of 64: the answers, which begin together, would fill 128.
  const TestServer server({"--kv-dtype", "f32"});
  const HttpAnswer answer =
      server.post(kChat, chat_body(R"(,"n":32,"max_tokens":220,"ignore_eos":true,"seed":1)"));
  EXPECT_EQ(answer.json().at("usage").at("completion_tokens").as_int64(), 7040);
  const Metrics metrics(server);
  EXPECT_GT(metrics.at("engine_preemptions_total"), 0);
  EXPECT_EQ(metrics.at("engine_generated_tokens_total"), 7040);
  EXPECT_EQ(metrics.at("engine_queue_seconds_count"), 1) << "of the first time alone";
  EXPECT_EQ(metrics.at("engine_inter_token_seconds_count"), 7040 - 32);
  EXPECT_EQ(metrics.type("vllm:num_preemptions_total"), "none");
  EXPECT_EQ(metrics.type("sglang:num_running_reqs"), "none");
}

TEST(ServeMetricsFlags, AKeyIsNeededUnlessTheyAreOpen) {
  const test::TempDir dir;
  dir.write("keys", std::string(40, 'k') + "\n");
  chmod(dir.path("keys").c_str(), 0600);
  {
    const TestServer server({"--api-key-file", dir.path("keys")});
    EXPECT_EQ(server.request("GET", "/metrics").status, 401);
    const std::string key = fmt::format("x-api-key: {}\r\n", std::string(40, 'k'));
    EXPECT_THAT(server.request("GET", "/metrics", {}, key).body,
                HasSubstr("engine_requests_refused_total{model_name=\"fable\","
                          "code=\"invalid_api_key\"} 1\n"));
  }
  const TestServer server({"--api-key-file", dir.path("keys"), "--metrics-open"});
  EXPECT_EQ(server.request("GET", "/metrics").status, 200);
  EXPECT_EQ(server.request("GET", "/version").status, 401);
}

}  // namespace
}  // namespace facet
