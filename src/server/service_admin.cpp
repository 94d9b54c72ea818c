// Service: the routes of an admin (server-api 10.5).

#include <algorithm>
#include <charconv>
#include <fmt/core.h>
#include <optional>
#include <utility>

#include "base/text.h"
#include "server/health.h"
#include "server/service.h"

namespace facet {
namespace {

constexpr double kMostPatience = 3600;

/// The value of `name` in a query string.
std::optional<std::string_view> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
    if (pair.starts_with(name) && pair.substr(name.size()).starts_with('='))
      return pair.substr(name.size() + 1);
  }
  return std::nullopt;
}

/// `?timeout=`, seconds; not given: none.
std::chrono::duration<double> patience_of(std::string_view query) {
  const std::optional<std::string_view> text = query_value(query, "timeout");
  if (!text) return {};
  double seconds = -1;
  const auto [end, fault] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  const bool whole = fault == std::errc() && end == text->data() + text->size();
  if (!whole || !(seconds >= 0 && seconds <= kMostPatience)) {
    throw ApiError(ApiCode::kInvalidValue,
                   fmt::format("timeout: found \"{}\", wanted seconds from 0 to {}",
                               printable(*text, 40), kMostPatience),
                   "timeout");
  }
  return std::chrono::duration<double>(seconds);
}

}  // namespace

/// Somebody who wants the prefix cache dropped.
struct Service::Flush {
  http::RequestHead head;
  std::shared_ptr<http::Exchange> exchange;
  Clock::time_point deadline;
};

void Service::administer(RouteKind kind,
                         const http::RequestHead& head,
                         const std::string& body,
                         std::shared_ptr<http::Exchange> exchange) {
  try {
    if (kind == RouteKind::kFlushCache) {
      const auto patience = std::chrono::duration_cast<Clock::duration>(patience_of(head.query));
      return flush(
          std::make_shared<Flush>(Flush{head, std::move(exchange), Clock::now() + patience}));
    }
    http::Response response;
    response.body = abort_requests(body);
    for (http::Field& field : common_fields(head)) response.fields.push_back(std::move(field));
    exchange->respond(std::move(response));
  } catch (const ApiError& error) {
    exchange->respond(refusal(error, head));
  }
}

std::string Service::abort_requests(const std::string& body) {
  const Value value = parse_body(body);
  Fields fields(value);
  const std::string* rid = fields.string("rid");
  const bool every = fields.flag("abort_all");
  finish_fields(fields, settings_, "/abort_request");
  if (!every && (rid == nullptr || rid->empty()))
    fields.fail(ApiCode::kMissingField, "rid", "wanted an id, or abort_all to be true");
  int64_t aborted = 0;
  for (const auto& live : live_) {
    if (!every && !live->is_named(*rid)) continue;
    live->abort();
    ++aborted;
  }
  JsonWriter json;
  json.open_object().member("aborted", aborted).close_object();
  return json.release();
}

void Service::flush(std::shared_ptr<Flush> flush) {
  engine_->flush_prefix_cache([this, flush = std::move(flush)](bool dropped) {
    loop_.post([this, flush, dropped] { flushed(flush, dropped); });
  });
}

void Service::flushed(const std::shared_ptr<Flush>& flush, bool dropped) {
  if (!dropped && Clock::now() < flush->deadline) {
    flushes_.push_back(flush);
    return;
  }
  if (!dropped) {
    const ApiError error(ApiCode::kRequestsRunning,
                         "Requests are running; the cache is dropped only between them.");
    return flush->exchange->respond(refusal(error, flush->head));
  }
  http::Response response;
  response.body = kOkBody;
  for (http::Field& field : common_fields(flush->head)) response.fields.push_back(std::move(field));
  flush->exchange->respond(std::move(response));
}

void Service::retry_flushes() {
  for (auto& waiting : std::exchange(flushes_, {})) flush(std::move(waiting));
}

}  // namespace facet
