#include "server/api_error.h"

#include <array>
#include <fmt/core.h>
#include <utility>

#include "base/check.h"
#include "server/json_writer.h"

namespace facet {
namespace {

constexpr std::string_view kRequest = "invalid_request_error";
constexpr std::string_view kPermission = "permission_error";
constexpr std::string_view kUnavailable = "unavailable_error";

constexpr std::array kRows = {
    ApiRow{ApiCode::kInvalidJson, 400, kRequest, "invalid_json"},
    ApiRow{ApiCode::kJsonTooDeep, 400, kRequest, "json_too_deep"},
    ApiRow{ApiCode::kJsonTooLarge, 400, kRequest, "json_too_large"},
    ApiRow{ApiCode::kDuplicateKey, 400, kRequest, "duplicate_key"},
    ApiRow{ApiCode::kMissingField, 400, kRequest, "missing_field"},
    ApiRow{ApiCode::kInvalidType, 400, kRequest, "invalid_type"},
    ApiRow{ApiCode::kInvalidValue, 400, kRequest, "invalid_value"},
    ApiRow{ApiCode::kUnknownParameter, 400, kRequest, "unknown_parameter"},
    ApiRow{ApiCode::kUnsupportedParameter, 400, kRequest, "unsupported_parameter"},
    ApiRow{ApiCode::kContextLengthExceeded, 400, kRequest, "context_length_exceeded"},
    ApiRow{ApiCode::kTokenOutOfRange, 400, kRequest, "token_out_of_range"},
    ApiRow{ApiCode::kInvalidToolArguments, 400, kRequest, "invalid_tool_arguments"},
    ApiRow{ApiCode::kUnsupportedMedia, 400, kRequest, "unsupported_media"},
    ApiRow{ApiCode::kBadRequest, 400, kRequest, "invalid_value"},
    ApiRow{ApiCode::kInvalidApiKey, 401, "authentication_error", "invalid_api_key"},
    ApiRow{ApiCode::kAdminRequired, 403, kPermission, "admin_required"},
    ApiRow{ApiCode::kOriginNotAllowed, 403, kPermission, "origin_not_allowed"},
    ApiRow{ApiCode::kModelNotFound, 404, kRequest, "model_not_found"},
    ApiRow{ApiCode::kUnknownUrl, 404, kRequest, "unknown_url"},
    ApiRow{ApiCode::kUnsupportedEndpoint, 404, kRequest, "unsupported_endpoint"},
    ApiRow{ApiCode::kMethodNotAllowed, 405, kRequest, "method_not_allowed"},
    ApiRow{ApiCode::kRequestTimeout, 408, kRequest, "request_timeout"},
    ApiRow{ApiCode::kRequestsRunning, 409, kRequest, "requests_running"},
    ApiRow{ApiCode::kPayloadTooLarge, 413, kRequest, "payload_too_large"},
    ApiRow{ApiCode::kUriTooLong, 414, kRequest, "uri_too_long"},
    ApiRow{ApiCode::kUnsupportedMediaType, 415, kRequest, "unsupported_media_type"},
    ApiRow{ApiCode::kUnsupportedEncoding, 415, kRequest, "unsupported_encoding"},
    ApiRow{ApiCode::kHostNotAllowed, 421, kRequest, "host_not_allowed"},
    ApiRow{ApiCode::kHeadersTooLarge, 431, kRequest, "headers_too_large"},
    ApiRow{ApiCode::kVersionNotSupported, 505, kRequest, "http_version_not_supported"},
    ApiRow{ApiCode::kRateLimitExceeded, 429, "rate_limit_error", "rate_limit_exceeded"},
    ApiRow{ApiCode::kEngineError, 500, "server_error", "engine_error"},
    ApiRow{ApiCode::kEngineStalled, 503, kUnavailable, "engine_error"},
    ApiRow{ApiCode::kModelLoading, 503, kUnavailable, "model_loading"},
    ApiRow{ApiCode::kServerOverloaded, 503, kUnavailable, "server_overloaded"},
    ApiRow{ApiCode::kQueueTimeout, 503, kUnavailable, "queue_timeout"},
    ApiRow{ApiCode::kShuttingDown, 503, kUnavailable, "shutting_down"},
};

/// Seconds after which another try may succeed.
int32_t retry_after(const ApiError& error) {
  if (error.retry_after() > 0) return error.retry_after();
  switch (error.api()) {
    case ApiCode::kRateLimitExceeded:
      return 30;
    case ApiCode::kShuttingDown:
    case ApiCode::kEngineStalled:
      return 10;
    case ApiCode::kModelLoading:
      return 2;
    default:
      return 1;
  }
}

}  // namespace

const ApiRow& api_row(ApiCode api) {
  for (const ApiRow& row : kRows) {
    if (row.api == api) return row;
  }
  CHECK(false, "no row for code {}", static_cast<int>(api));
  return kRows.front();
}

ApiError::ApiError(ApiCode api, std::string message, std::string param)
    : Error(api_row(api).status >= 500 ? ErrorCode::kInternal : ErrorCode::kBadInput,
            std::move(message)),
      api_(api),
      param_(std::move(param)) {}

std::string error_body(const ApiError& error) {
  const ApiRow& row = api_row(error.api());
  JsonWriter json;
  json.open_object().key("error").open_object();
  json.member("message", error.message()).member("type", row.type);
  json.key("param");
  if (error.param().empty()) {
    json.null();
  } else {
    json.text(error.param());
  }
  json.member("code", row.code).close_object().close_object();
  return json.release();
}

http::Response error_response(const ApiError& error) {
  http::Response response;
  response.status = api_row(error.api()).status;
  response.body = error_body(error);
  if (response.status == 401) response.fields.push_back({"WWW-Authenticate", "Bearer"});
  if (response.status == 429 || response.status == 503)
    response.fields.push_back({"Retry-After", fmt::format("{}", retry_after(error))});
  if (error.api() == ApiCode::kEngineError || error.api() == ApiCode::kEngineStalled ||
      error.api() == ApiCode::kShuttingDown)
    response.fields.push_back({"x-should-retry", "false"});
  return response;
}

}  // namespace facet
