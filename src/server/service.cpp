#include "server/service.h"

#include <algorithm>
#include <fmt/core.h>
#include <new>
#include <utility>
#include <variant>

#include "base/log.h"
#include "base/text.h"
#include "server/health.h"
#include "server/refusal.h"
#include "server/request_checks.h"

namespace facet {
namespace {

/// Bodies up to this are parsed and tokenised on the loop's thread; that takes a millisecond or
/// two.
constexpr size_t kSmallBody = 8 << 10;

bool generates(RouteKind kind) {
  return kind == RouteKind::kChat || kind == RouteKind::kCompletions ||
         kind == RouteKind::kGenerate;
}

/// A step so recent answers /health_generate.
constexpr auto kRecent = std::chrono::seconds(20);

/// Routes that cost more than a look: those count against the limits of a key. An admin can always
/// act.
bool works(const RouteRow& route) {
  if (route.access == RouteAccess::kAdmin) return false;
  return route.method == "POST" || route.kind == RouteKind::kHealthGenerate;
}

}  // namespace

/// A request whose body is being made ready, perhaps on a helper.
struct Service::Job {
  RouteKind kind;
  std::string body;
  RouteContext context;
  std::shared_ptr<http::Exchange> exchange;
  LiveRequest::Origin origin;
  std::shared_ptr<const void> ticket;  // of KeyUse: let go of on the loop's thread
  // What came of it: one of these.
  std::optional<Prepared> prepared = {};
  std::string answer = {};
  std::optional<ApiError> error = {};
};

Service::Service(http::Loop& loop, ServerSettings settings, KeyRing keys)
    : loop_(loop),
      settings_(std::move(settings)),
      key_use_(settings_.key_limits),
      keys_(std::move(keys)) {}

void Service::serve(const ServedModel& model, Engine& engine) {
  loop_.post([this, &model, &engine] {
    model_ = &model;
    engine_ = &engine;
  });
}

void Service::drain() {
  draining_ = true;
  if (engine_ != nullptr) engine_->drain();
}

void Service::end_all(const ApiError& error) {
  const auto all = live_;  // each one ended leaves the set
  for (const auto& one : all) one->fail(error);
}

bool Service::engine_failed() const { return engine_ != nullptr && engine_->status().failed; }

void Service::tick() {
  const auto now = Clock::now();
  meters_->tick(now);
  retry_flushes();
  if (settings_.sse_ping.count() == 0) return;
  const auto all = live_;  // one whose reader is too slow leaves the set
  for (const auto& one : all) one->ping(now, settings_.sse_ping);
}

// ---- Before the body

void Service::check_peer(const http::RequestHead& head) const {
  const bool health = head.path == "/health" || head.path == "/health/live" || head.path == "/ping";
  if (head.over_capacity && !health)
    throw ApiError(ApiCode::kServerOverloaded, "Too many connections are open; try again later.");
  if (settings_.check_host) check_host(*head.field("host"), settings_.allowed_hosts);
  const bool trusted = settings_.check_host || !keys_.empty();
  check_origin(head, settings_.allowed_origins, trusted ? HostTrust::kYes : HostTrust::kNo);
}

Caller Service::check_key(const http::RequestHead& head) {
  if (const std::optional<Caller> caller = keys_.caller(head)) return *caller;
  if (!head.peer_is_local && !failures_.allow(head.peer, Clock::now())) {
    throw ApiError(ApiCode::kRateLimitExceeded,
                   "Too many requests with a wrong key from this address; try again later.");
  }
  throw ApiError(ApiCode::kInvalidApiKey,
                 "A valid key is needed, as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\".");
}

Caller Service::check_access(const RouteRow& route, const http::RequestHead& head) {
  if (route.access == RouteAccess::kAdmin && !settings_.admin_api)
    throw ApiError(ApiCode::kUnknownUrl, "This route is there with --admin-api only.");
  const bool open = route.access == RouteAccess::kOpen ||
                    (route.kind == RouteKind::kMetrics && settings_.metrics_open);
  if (open) return {};
  Caller caller = check_key(head);
  if (route.access == RouteAccess::kAdmin && caller.role != KeyRole::kAdmin)
    throw ApiError(ApiCode::kAdminRequired, "This route needs the key of an admin.");
  return caller;
}

void Service::check_state(const RouteRow& route) const {
  if (route.kind == RouteKind::kHealthLive || route.kind == RouteKind::kWebPage) return;
  if (model_ == nullptr) {
    throw ApiError(ApiCode::kModelLoading,
                   fmt::format("The model is being loaded: {} % are read.", progress_.load()));
  }
  if (draining_) throw ApiError(ApiCode::kShuttingDown, "The server is shutting down.");
  if (generates(route.kind) && engine_->status().waiting >= engine_->limits().max_queue)
    throw ApiError(ApiCode::kServerOverloaded, "The queue is full; try again later.");
}

http::Handler::Admission Service::admit(const http::RequestHead& head) {
  try {
    check_peer(head);
    if (head.method == "OPTIONS" && head.field("origin") != nullptr) return {preflight(head), 0};
    const RouteMatch match = find_route(head.method, head.path, settings_.v1_alias);
    const Caller caller = check_access(*match.route, head);
    if (works(*match.route)) key_use_.check(caller, Clock::now());
    check_state(*match.route);
    const bool bare = match.route->kind == RouteKind::kFlushCache && !head.has_body;
    if (match.route->method == "POST" && !bare) check_body_fields(head);
    return {std::nullopt, static_cast<uint64_t>(most_body(head))};
  } catch (const ApiError& error) {
    return {refusal(error, head), 0};
  }
}

int64_t Service::most_body(const http::RequestHead& head) const {
  return head.method == "POST" ? settings_.body_limit : 0;
}

void Service::check_body_fields(const http::RequestHead& head) {
  check_encoding(head);
  check_content_type(head);
}

// ---- Answers without the engine

std::vector<http::Field> Service::common_fields(const http::RequestHead& head) const {
  const std::string* given = head.field("x-request-id");
  std::vector<http::Field> fields = {
      {"X-Request-Id", given != nullptr && is_plain_name(*given) ? *given : fresh_id("req-")}};
  const std::string* origin = head.field("origin");
  const auto& allowed = settings_.allowed_origins;
  if (origin != nullptr && std::find(allowed.begin(), allowed.end(), *origin) != allowed.end()) {
    fields.push_back({"Access-Control-Allow-Origin", *origin});
    fields.push_back({"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"});
    fields.push_back({"Vary", "Origin"});
  }
  return fields;
}

http::Response Service::preflight(const http::RequestHead& head) const {
  const std::string methods = allowed_methods(head.path, settings_.v1_alias);
  http::Response response;
  response.status = 204;
  response.fields = common_fields(head);
  response.fields.push_back({"Access-Control-Allow-Methods", methods});
  response.fields.push_back(
      {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id"});
  response.fields.push_back({"Access-Control-Max-Age", "600"});
  return response;
}

http::Response Service::refusal(const ApiError& error, const http::RequestHead& head) const {
  std::vector<http::Field> fields = common_fields(head);
  http::Response response = refusal_at(head.path, error, fields.front().value);
  for (http::Field& field : fields) response.fields.push_back(std::move(field));
  if (error.api() == ApiCode::kMethodNotAllowed) {
    response.fields.push_back({"Allow", allowed_methods(head.path, settings_.v1_alias)});
  }
  meters_->refused(error.api());
  log_debug("request", "refused status={} code={}", response.status, api_row(error.api()).code);
  return response;
}

http::Response Service::refuse(http::Fault fault, const http::RequestHead* head) {
  static const http::RequestHead none;
  if (head == nullptr) head = &none;
  return refusal(error_of(fault, most_body(*head)), *head);
}

http::Response Service::health(RouteKind kind) const {
  http::Response response;
  response.body = kOkBody;
  if (kind == RouteKind::kHealthLive) return response;
  const EngineStatus status = engine_->status();
  check_health(status);
  if (kind == RouteKind::kHealthReady) response.body = ready_body(status, Clock::now() - start_);
  return response;
}

http::Response Service::get(const RouteMatch& match, const http::RequestHead& head) const {
  http::Response response;
  switch (match.route->kind) {
    case RouteKind::kWebPage:
      if (!settings_.web)
        throw ApiError(ApiCode::kUnknownUrl, "There is no web page here (--no-web).");
      response = page_.answer(head);
      break;
    case RouteKind::kModels:
      response.body = models_body(context_of({}, {}));
      break;
    case RouteKind::kModel:
      response.body = model_body(match.rest, context_of({}, {}));
      break;
    case RouteKind::kTokenizerInfo:
      response.body = tokenizer_info_body(context_of({}, {}));
      break;
    case RouteKind::kHealth:
    case RouteKind::kHealthLive:
    case RouteKind::kHealthReady:
      response = health(match.route->kind);
      break;
    default:
      response = information(match.route->kind);
  }
  return response;
}

// ---- Requests

RouteContext Service::context_of(std::string tenant, std::string request_id) const {
  return {*model_, settings_, std::move(request_id), std::move(tenant)};
}

void Service::handle(http::RequestHead head,
                     std::string body,
                     std::shared_ptr<http::Exchange> exchange) {
  try {
    const RouteMatch match = find_route(head.method, head.path, settings_.v1_alias);
    // Looked at again: while the body came, the keys may have been replaced, or the limit reached.
    Caller caller = check_access(*match.route, head);
    if (match.route->access == RouteAccess::kAdmin)
      return administer(match.route->kind, head, body, std::move(exchange));
    std::shared_ptr<const void> ticket;
    if (works(*match.route)) ticket = key_use_.take(caller, Clock::now());
    if (match.route->kind == RouteKind::kHealthGenerate)
      return generate_for_health(head, std::move(exchange), std::move(ticket));
    if (match.route->method == "POST") {
      return start_job(match.route->kind, head, std::move(body), std::move(exchange),
                       {std::move(caller.tenant), std::move(ticket)});
    }
    http::Response response = get(match, head);
    for (http::Field& field : common_fields(head)) response.fields.push_back(std::move(field));
    exchange->respond(std::move(response));
  } catch (const ApiError& error) {
    exchange->respond(refusal(error, head));
  }
}

LiveRequest::Origin Service::origin_of(const http::RequestHead& head) const {
  LiveRequest::Origin origin;
  origin.fields = common_fields(head);
  origin.request_id = origin.fields.front().value;
  origin.arrival = Clock::now();
  origin.meters = meters_.get();
  return origin;
}

void Service::start_job(RouteKind kind,
                        const http::RequestHead& head,
                        std::string body,
                        std::shared_ptr<http::Exchange> exchange,
                        Holder holder) {
  LiveRequest::Origin origin = origin_of(head);
  RouteContext context = context_of(std::move(holder.tenant), origin.request_id);
  auto job =
      std::make_shared<Job>(Job{kind, std::move(body), std::move(context), std::move(exchange),
                                std::move(origin), std::move(holder.ticket)});
  if (job->body.size() <= kSmallBody) {
    prepare(job);
    return answer(*job);
  }
  loop_.in_background([this, job] {
    prepare(job);
    loop_.post([this, job] {
      --preparing_;
      const std::shared_ptr<http::Exchange> reply = job->exchange;
      try {
        answer(*job);
      } catch (const std::bad_alloc&) {
        reply->abort();
      }
    });
  });
  ++preparing_;
}

void Service::prepare(const std::shared_ptr<Job>& job) const {
  try {
    const Value body = parse_body(job->body);
    std::string().swap(job->body);
    switch (job->kind) {
      case RouteKind::kChat:
        job->prepared = prepare_chat(body, job->context);
        break;
      case RouteKind::kCompletions:
        job->prepared = prepare_completions(body, job->context);
        break;
      case RouteKind::kGenerate:
        job->prepared = prepare_generate(body, job->context);
        break;
      case RouteKind::kTokenize:
        job->answer = tokenize_body(body, job->context);
        break;
      case RouteKind::kDetokenize:
        job->answer = detokenize_body(body, job->context);
        break;
      default:
        job->answer = apply_template_body(body, job->context);
    }
  } catch (const ApiError& error) {
    job->error = error;
  } catch (const Error& error) {
    job->error = ApiError(ApiCode::kInvalidValue, error.message(), error.place());
  } catch (const std::bad_alloc&) {
    // What was made of it is gone by now, so that there is some again.
    job->prepared.reset();
    job->error = ApiError(ApiCode::kServerOverloaded, "Not enough memory for this request.");
  }
}

void Service::answer(Job& job) {
  std::shared_ptr<const void> ticket = std::move(job.ticket);
  if (job.prepared) {
    return begin(std::move(*job.prepared), std::move(job.exchange), std::move(job.origin),
                 std::move(ticket));
  }
  http::Response response;
  if (job.error) {
    response = error_response(*job.error);
    meters_->refused(job.error->api());
    log_info("request", "done id={} status={} reason={}", job.origin.request_id, response.status,
             api_row(job.error->api()).code);
  } else {
    response.body = std::move(job.answer);
  }
  for (http::Field& field : job.origin.fields) response.fields.push_back(std::move(field));
  job.exchange->respond(std::move(response));
}

void Service::begin(Prepared prepared,
                    std::shared_ptr<http::Exchange> exchange,
                    LiveRequest::Origin origin,
                    std::shared_ptr<const void> ticket) {
  const auto live = std::make_shared<LiveRequest>(*engine_, loop_, std::move(prepared),
                                                  std::move(exchange), std::move(origin));
  live_.insert(live);
  try {
    // The ticket goes with the callback, that is when the request ends.
    live->begin([this, ticket = std::move(ticket)](LiveRequest& ended) {
      live_.erase(ended.shared_from_this());
      if (live_.empty()) retry_flushes();
    });
  } catch (const std::bad_alloc&) {
    live->gone();
    live_.erase(live);
    throw;
  }
}

void Service::generate_for_health(const http::RequestHead& head,
                                  std::shared_ptr<http::Exchange> exchange,
                                  std::shared_ptr<const void> ticket) {
  LiveRequest::Origin origin = origin_of(head);
  const EngineStatus status = engine_->status();
  // A busy engine shows by its steps that it is well; a request would only wait its turn.
  if (status.running + status.waiting > 0 && Clock::now() - status.last_step < kRecent) {
    http::Response response;
    response.body = kOkBody;
    response.fields = std::move(origin.fields);
    return exchange->respond(std::move(response));
  }
  origin.meters = nullptr;
  Prepared prepared = prepare_health(*model_, origin.request_id);
  begin(std::move(prepared), std::move(exchange), std::move(origin), std::move(ticket));
}

}  // namespace facet
