#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace facet {

enum class RouteKind {
  kWebPage,
  kChat,
  kCompletions,
  kGenerate,
  kModels,
  kModel,
  kTokenize,
  kDetokenize,
  kApplyTemplate,
  kTokenizerInfo,
  kHealth,
  kHealthLive,
  kHealthReady,
  kHealthGenerate,
  kModelInfo,
  kServerInfo,
  kProps,
  kVersion,
  kMetrics,
  kOpenApi,
  kAbortRequest,
  kFlushCache,
};

/// Who may: anybody, whoever has a key, or with --admin-api whoever has an admin's key.
enum class RouteAccess { kOpen, kUser, kAdmin };

/// One route of the server (server-api 2).
struct RouteRow {
  std::string_view method;  ///< GET or POST
  std::string_view path;    ///< one that ends in '/' stands for all that begin with it, save "/"
  RouteAccess access;
  RouteKind kind;
};
std::span<const RouteRow> route_table();

/// Is POST /v1/x also there as /x?
enum class V1Alias { kNo, kYes };

struct RouteMatch {
  const RouteRow* route;
  std::string_view rest;  ///< of the path, behind a route that ends in '/'
};

/// The route of a request; HEAD counts as GET, and with kYes a POST to "/x" as one to "/v1/x".
/// Throws ApiError: kMethodNotAllowed, kUnsupportedEndpoint for what other servers offer, or
/// kUnknownUrl.
RouteMatch find_route(std::string_view method, std::string_view path, V1Alias alias);

/// The methods of `path` as the field Allow lists them; empty for a path that is none.
std::string allowed_methods(std::string_view path, V1Alias alias);

}  // namespace facet
