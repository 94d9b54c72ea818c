#include "server/refusal.h"

#include <fmt/core.h>

#include "server/json_writer.h"

namespace facet {
namespace {

/// The names that the Messages API has for a status.
std::string_view messages_type(int32_t status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "api_error";
    case 503:
      return "overloaded_error";
    default:
      return "invalid_request_error";
  }
}

bool begins_with_messages(std::string_view path) {
  constexpr std::string_view kMessages = "/v1/messages";
  return path == kMessages ||
         (path.starts_with(kMessages) && path.substr(kMessages.size()).starts_with('/'));
}

}  // namespace

ApiError error_of(http::Fault fault, int64_t body_limit) {
  switch (fault) {
    case http::Fault::kTimeout:
      return {ApiCode::kRequestTimeout, "The request did not arrive in time."};
    case http::Fault::kPayloadTooLarge:
      return {ApiCode::kPayloadTooLarge,
              body_limit == 0 ? "Only a POST may have a body here."
                              : fmt::format("The body is larger than {} bytes.", body_limit)};
    case http::Fault::kUriTooLong:
      return {ApiCode::kUriTooLong, "The request line is longer than 8192 bytes."};
    case http::Fault::kHeadersTooLarge:
      return {ApiCode::kHeadersTooLarge,
              "The header is larger than 16384 bytes, or has over 64 fields."};
    case http::Fault::kVersion:
      return {ApiCode::kVersionNotSupported, "Only HTTP/1.1 is spoken here."};
    case http::Fault::kNoTls:
      return {ApiCode::kBadRequest, "This port speaks TLS: use https://."};
    case http::Fault::kBadRequest:
      break;
  }
  return {ApiCode::kBadRequest, "The request is not well-formed HTTP/1.1."};
}

http::Response refusal_at(std::string_view path,
                          const ApiError& error,
                          std::string_view request_id) {
  http::Response response = error_response(error);
  JsonWriter json;
  if (path.starts_with("/api/")) {
    json.open_object().member("error", error.message()).close_object();
    response.body = json.release();
  } else if (begins_with_messages(path)) {
    json.open_object().member("type", "error").key("error").open_object();
    json.member("type", messages_type(response.status));
    json.member("message", error.message()).close_object();
    json.member("request_id", request_id).close_object();
    response.body = json.release();
  }
  return response;
}

}  // namespace facet
