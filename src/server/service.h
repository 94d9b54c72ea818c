#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "engine/engine.h"
#include "server/api_error.h"
#include "server/http/loop.h"
#include "server/http/message.h"
#include "server/key_use.h"
#include "server/keys.h"
#include "server/live_request.h"
#include "server/route.h"
#include "server/route_table.h"
#include "server/served_model.h"
#include "server/server_meters.h"
#include "server/web_page.h"

namespace facet {

/// Answers every request of a server: which route, who may, and what is said until a model is
/// there. Unless said otherwise on the loop's thread, on which all of its state lives. Must outlive
/// the loop's run.
class Service final : public http::Handler {
 public:
  Service(http::Loop& loop, ServerSettings settings, KeyRing keys);

  /// Any thread: how much of the model is read, 0 to 100; told to whoever asks before it is there.
  void set_progress(int32_t percent) { progress_ = percent; }
  /// Any thread: requests are served from now on. Both must outlive the loop's run.
  void serve(const ServedModel& model, Engine& engine);
  void replace_keys(KeyRing keys) { keys_ = std::move(keys); }
  /// New requests are refused from now on.
  void drain();
  /// Ends what is left with an error.
  void end_all(const ApiError& error);
  /// Requests that are not answered yet.
  int64_t live() const { return std::ssize(live_) + preparing_; }
  /// Has the engine failed for good?
  bool engine_failed() const;
  /// Once a second: comments on silent streams, rates, flushes that wait.
  void tick();

  Admission admit(const http::RequestHead& head) override;
  void handle(http::RequestHead head,
              std::string body,
              std::shared_ptr<http::Exchange> exchange) override;
  http::Response refuse(http::Fault fault, const http::RequestHead* head) override;

 private:
  using Clock = LiveRequest::Clock;
  struct Job;
  struct Holder {  // of a key
    std::string tenant;
    std::shared_ptr<const void> ticket;  // of KeyUse
  };

  // What admit() checks, in this order. Each throws ApiError.
  void check_peer(const http::RequestHead& head) const;
  Caller check_key(const http::RequestHead& head);
  Caller check_access(const RouteRow& route, const http::RequestHead& head);
  void check_state(const RouteRow& route) const;
  /// Bytes; 0: no body is taken.
  int64_t most_body(const http::RequestHead& head) const;
  static void check_body_fields(const http::RequestHead& head);

  http::Response refusal(const ApiError& error, const http::RequestHead& head) const;
  std::vector<http::Field> common_fields(const http::RequestHead& head) const;
  http::Response preflight(const http::RequestHead& head) const;
  RouteContext context_of(std::string tenant, std::string request_id) const;
  LiveRequest::Origin origin_of(const http::RequestHead& head) const;

  http::Response get(const RouteMatch& match,
                     const http::RequestHead& head) const;  // throws ApiError
  http::Response health(RouteKind kind) const;              // throws ApiError
  void generate_for_health(const http::RequestHead& head,
                           std::shared_ptr<http::Exchange> exchange,
                           std::shared_ptr<const void> ticket);
  void start_job(RouteKind kind,
                 const http::RequestHead& head,
                 std::string body,
                 std::shared_ptr<http::Exchange> exchange,
                 Holder holder);
  http::Response information(RouteKind kind) const;     // service_info.cpp
  void prepare(const std::shared_ptr<Job>& job) const;  // any thread
  void answer(Job& job);
  void begin(Prepared prepared,
             std::shared_ptr<http::Exchange> exchange,
             LiveRequest::Origin origin,
             std::shared_ptr<const void> ticket);

  // service_admin.cpp
  struct Flush;
  void administer(RouteKind kind,
                  const http::RequestHead& head,
                  const std::string& body,
                  std::shared_ptr<http::Exchange> exchange);
  std::string abort_requests(const std::string& body);  // throws ApiError
  void flush(std::shared_ptr<Flush> flush);
  void flushed(const std::shared_ptr<Flush>& flush, bool dropped);
  void retry_flushes();

  http::Loop& loop_;
  const ServerSettings settings_;
  const WebPage page_{web_page_text()};
  const std::unique_ptr<ServerMeters> meters_ = std::make_unique<ServerMeters>();
  const Clock::time_point start_ = Clock::now();
  std::atomic<int32_t> progress_{0};

  KeyUse key_use_;
  KeyRing keys_;
  FailureLimit failures_;
  const ServedModel* model_ = nullptr;
  Engine* engine_ = nullptr;
  bool draining_ = false;
  int64_t preparing_ = 0;
  std::unordered_set<std::shared_ptr<LiveRequest>> live_;
  std::vector<std::shared_ptr<Flush>> flushes_;  // those that wait for requests to end
};

}  // namespace facet
