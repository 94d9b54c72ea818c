#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "server/http/message.h"

namespace facet {

/// What can be answered instead of what was asked for (server-api 4).
enum class ApiCode {
  kInvalidJson,
  kJsonTooDeep,
  kJsonTooLarge,
  kDuplicateKey,
  kMissingField,
  kInvalidType,
  kInvalidValue,
  kUnknownParameter,
  kUnsupportedParameter,
  kContextLengthExceeded,
  kTokenOutOfRange,
  kInvalidToolArguments,
  kUnsupportedMedia,
  kBadRequest,
  kInvalidApiKey,
  kAdminRequired,
  kOriginNotAllowed,
  kModelNotFound,
  kUnknownUrl,
  kUnsupportedEndpoint,
  kMethodNotAllowed,
  kRequestTimeout,
  kRequestsRunning,
  kPayloadTooLarge,
  kUriTooLong,
  kUnsupportedMediaType,
  kUnsupportedEncoding,
  kHostNotAllowed,
  kHeadersTooLarge,
  kVersionNotSupported,
  kRateLimitExceeded,
  kEngineError,
  kEngineStalled,  ///< what health says of an engine that has failed or makes no step
  kModelLoading,
  kServerOverloaded,
  kQueueTimeout,
  kShuttingDown,
};

/// One row of the table of codes.
struct ApiRow {
  ApiCode api;
  int32_t status;
  std::string_view type;
  std::string_view code;
};
const ApiRow& api_row(ApiCode api);

/// A request that cannot go on. `param` is the path of the field ("messages[2].content"), empty if
/// none is to blame; the message names it too and holds no text of the prompt.
class ApiError : public Error {
 public:
  ApiError(ApiCode api, std::string message, std::string param = {});

  ApiCode api() const { return api_; }
  const std::string& param() const { return param_; }

  /// Seconds after which another try may succeed, as Retry-After says; 0: those of the code.
  int32_t retry_after() const { return retry_after_; }
  void set_retry_after(int32_t seconds) { retry_after_ = seconds; }

 private:
  ApiCode api_;
  std::string param_;
  int32_t retry_after_ = 0;
};

/// {"error":{"message","type","param","code"}}
std::string error_body(const ApiError& error);
/// Status, body and the fields that go with the code (WWW-Authenticate, Retry-After,
/// x-should-retry).
http::Response error_response(const ApiError& error);

}  // namespace facet
