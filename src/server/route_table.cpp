#include "server/route_table.h"

#include <array>
#include <fmt/core.h>

#include "base/text.h"
#include "server/api_error.h"

namespace facet {
namespace {

constexpr std::array kRoutes = {
    RouteRow{"GET", "/", RouteAccess::kOpen, RouteKind::kWebPage},
    RouteRow{"POST", "/v1/chat/completions", RouteAccess::kUser, RouteKind::kChat},
    RouteRow{"POST", "/v1/completions", RouteAccess::kUser, RouteKind::kCompletions},
    RouteRow{"POST", "/generate", RouteAccess::kUser, RouteKind::kGenerate},
    RouteRow{"GET", "/v1/models", RouteAccess::kUser, RouteKind::kModels},
    RouteRow{"GET", "/v1/models/", RouteAccess::kUser, RouteKind::kModel},
    RouteRow{"POST", "/tokenize", RouteAccess::kUser, RouteKind::kTokenize},
    RouteRow{"POST", "/detokenize", RouteAccess::kUser, RouteKind::kDetokenize},
    RouteRow{"POST", "/apply-template", RouteAccess::kUser, RouteKind::kApplyTemplate},
    RouteRow{"GET", "/tokenizer_info", RouteAccess::kUser, RouteKind::kTokenizerInfo},
    RouteRow{"GET", "/health", RouteAccess::kOpen, RouteKind::kHealth},
    RouteRow{"GET", "/ping", RouteAccess::kOpen, RouteKind::kHealth},
    RouteRow{"GET", "/health/live", RouteAccess::kOpen, RouteKind::kHealthLive},
    RouteRow{"GET", "/health/ready", RouteAccess::kUser, RouteKind::kHealthReady},
    RouteRow{"GET", "/health_generate", RouteAccess::kUser, RouteKind::kHealthGenerate},
    RouteRow{"GET", "/model_info", RouteAccess::kUser, RouteKind::kModelInfo},
    RouteRow{"GET", "/get_model_info", RouteAccess::kUser, RouteKind::kModelInfo},
    RouteRow{"GET", "/server_info", RouteAccess::kUser, RouteKind::kServerInfo},
    RouteRow{"GET", "/get_server_info", RouteAccess::kUser, RouteKind::kServerInfo},
    RouteRow{"GET", "/props", RouteAccess::kUser, RouteKind::kProps},
    RouteRow{"GET", "/version", RouteAccess::kUser, RouteKind::kVersion},
    RouteRow{"GET", "/metrics", RouteAccess::kUser, RouteKind::kMetrics},
    RouteRow{"GET", "/openapi.json", RouteAccess::kUser, RouteKind::kOpenApi},
    RouteRow{"POST", "/abort_request", RouteAccess::kAdmin, RouteKind::kAbortRequest},
    RouteRow{"POST", "/flush_cache", RouteAccess::kAdmin, RouteKind::kFlushCache},
    RouteRow{"POST", "/reset_prefix_cache", RouteAccess::kAdmin, RouteKind::kFlushCache},
};

/// What other servers offer and this one does not.
struct Missing {
  std::string_view path;  // one that ends in '/' stands for all that begin with it
  std::string_view feature;
};
constexpr std::array kMissing = {
    Missing{"/v1/embeddings", "Embeddings"},
    Missing{"/v1/rerank", "Reranking"},
    Missing{"/v1/score", "Scoring"},
    Missing{"/v1/audio/", "Audio"},
    Missing{"/v1/images/", "Image generation"},
    Missing{"/v1/files", "Files"},
    Missing{"/v1/files/", "Files"},
    Missing{"/v1/batches", "Batches"},
    Missing{"/v1/batches/", "Batches"},
    Missing{"/v1/responses", "The Responses API"},
    Missing{"/v1/responses/", "The Responses API"},
    Missing{"/v1/messages", "The Messages API"},
    Missing{"/v1/messages/", "The Messages API"},
};

/// Does the row stand for all paths that begin with it?
bool open_ended(std::string_view row) { return row.size() > 1 && row.back() == '/'; }

bool matches(std::string_view row, std::string_view path) {
  if (row == path) return !open_ended(row);
  return open_ended(row) && path.size() > row.size() && path.starts_with(row);
}

bool same_method(std::string_view row, std::string_view method) {
  return row == method || (row == "GET" && method == "HEAD");
}

/// The path that a POST without the prefix means.
std::string full_path(const RouteRow& row, std::string_view path, V1Alias alias) {
  if (alias == V1Alias::kYes && row.method == "POST" && row.path.starts_with("/v1/") &&
      !path.starts_with("/v1/"))
    return fmt::format("/v1{}", path);
  return std::string(path);
}

}  // namespace

std::span<const RouteRow> route_table() { return kRoutes; }

std::string allowed_methods(std::string_view path, V1Alias alias) {
  std::string methods;
  for (const RouteRow& row : kRoutes) {
    if (!matches(row.path, full_path(row, path, alias))) continue;
    if (!methods.empty()) methods += ", ";
    methods += row.method == "GET" ? "GET, HEAD" : row.method;
  }
  return methods;
}

RouteMatch find_route(std::string_view method, std::string_view path, V1Alias alias) {
  for (const RouteRow& row : kRoutes) {
    if (!same_method(row.method, method) || !matches(row.path, full_path(row, path, alias)))
      continue;
    return {&row, open_ended(row.path) ? path.substr(row.path.size()) : std::string_view()};
  }
  const std::string methods = allowed_methods(path, alias);
  if (!methods.empty()) {
    throw ApiError(ApiCode::kMethodNotAllowed,
                   fmt::format("{} is answered to {} only.", printable(path, 80), methods));
  }
  for (const Missing& missing : kMissing) {
    if (matches(missing.path, path)) {
      throw ApiError(ApiCode::kUnsupportedEndpoint,
                     fmt::format("{} is not supported by this server.", missing.feature));
    }
  }
  throw ApiError(ApiCode::kUnknownUrl, fmt::format("There is nothing at {}.", printable(path, 80)));
}

}  // namespace facet
