#include "server/health.h"

#include <fmt/core.h>

#include "server/api_error.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

/// An engine that has made no step for so long is told to be ill; a step with a long prompt takes
/// some seconds on a slow machine.
constexpr auto kStalled = std::chrono::seconds(60);
constexpr auto kPatience = std::chrono::seconds(20);

class HealthAnswer final : public Answer {
 public:
  void start(int32_t /*prompt*/,
             int32_t /*cached_tokens*/,
             std::vector<std::optional<TokenLogprob>> /*prompt_logprobs*/) override {}
  Next take(int32_t /*choice*/, const TokenEvent& event) override {
    if (event.id >= 0) ++usage_.completion;
    return Next::kGoOn;
  }
  std::string release_events() override { return {}; }
  std::string last_events() override { return {}; }
  std::string body() override { return std::string(kOkBody); }
  Usage usage() const override { return usage_; }
  std::string_view finish_reason() const override { return "length"; }

 private:
  Usage usage_{1, 0, 0, 0};
};

}  // namespace

void check_health(const EngineStatus& status) {
  if (status.failed) throw ApiError(ApiCode::kEngineStalled, "The engine has failed.");
  if (std::chrono::steady_clock::now() - status.last_step > kStalled) {
    throw ApiError(ApiCode::kEngineStalled,
                   fmt::format("The engine has made no step for {} seconds.", kStalled.count()));
  }
}

std::string ready_body(const EngineStatus& status, std::chrono::steady_clock::duration uptime) {
  JsonWriter json;
  json.open_object().member("status", "ok").member("waiting", status.waiting);
  json.member("running", status.running).key("free_pages").open_array();
  // Pages that only the prefix cache holds are given back when they are needed.
  for (const EngineStatus::Group& group : status.groups) json.integer(group.unused());
  json.close_array().key("uptime_seconds");
  json.number(std::chrono::duration<double>(uptime).count()).close_object();
  return json.release();
}

Prepared prepare_health(const ServedModel& model, const std::string& id) {
  Request request;
  request.id = id;
  request.prompt = {to_index(control::kBos)};
  request.sampling.temperature = 0;
  request.never_ids = model.never_ids;
  request.cache_key = "health";
  request.priority = -1000;
  request.deadline = std::chrono::steady_clock::now() + kPatience;
  Prepared prepared;
  prepared.requests.push_back(std::move(request));
  prepared.answer = std::make_unique<HealthAnswer>();
  return prepared;
}

}  // namespace facet
