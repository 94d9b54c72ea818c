// Service: the information routes and /metrics.

#include "server/information.h"
#include "server/service.h"

namespace facet {

http::Response Service::information(RouteKind kind) const {
  const ServerView view{*model_, settings_, *engine_, *meters_};
  http::Response response;
  switch (kind) {
    case RouteKind::kModelInfo:
      response.body = model_info_body(view);
      break;
    case RouteKind::kServerInfo:
      response.body = server_info_body(view);
      break;
    case RouteKind::kProps:
      response.body = props_body(view);
      break;
    case RouteKind::kVersion:
      response.body = version_body(view);
      break;
    case RouteKind::kMetrics:
      response.content_type = kMetricsType;
      response.body = metrics_text(view);
      break;
    default:
      response.body = openapi_text();
  }
  return response;
}

}  // namespace facet
