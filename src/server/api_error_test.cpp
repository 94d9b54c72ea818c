#include "server/api_error.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/answer.h"
#include "server/request_checks.h"
#include "server/route_table.h"

namespace facet {
namespace {

bool has_field(const http::Response& response, const std::string& name) {
  for (const http::Field& field : response.fields) {
    if (field.name == name) return true;
  }
  return false;
}

TEST(ApiError, BodiesNameTheField) {
  EXPECT_EQ(error_body({ApiCode::kInvalidValue, "n: found 0", "n"}),
            R"({"error":{"message":"n: found 0","type":"invalid_request_error","param":"n",)"
            R"("code":"invalid_value"}})");
  EXPECT_EQ(error_body({ApiCode::kModelLoading, "\"50\" %"}),
            R"({"error":{"message":"\"50\" %","type":"unavailable_error","param":null,)"
            R"("code":"model_loading"}})");
}

TEST(ApiError, FieldsTellClientsWhetherToTryAgain) {
  const auto response = [](ApiCode code) { return error_response({code, "x"}); };
  for (const ApiCode code :
       {ApiCode::kRateLimitExceeded, ApiCode::kModelLoading, ApiCode::kServerOverloaded,
        ApiCode::kQueueTimeout, ApiCode::kShuttingDown, ApiCode::kEngineStalled})
    EXPECT_TRUE(has_field(response(code), "Retry-After"));
  for (const ApiCode code :
       {ApiCode::kEngineError, ApiCode::kShuttingDown, ApiCode::kEngineStalled})
    EXPECT_TRUE(has_field(response(code), "x-should-retry"));
  EXPECT_TRUE(has_field(response(ApiCode::kInvalidApiKey), "WWW-Authenticate"));
  EXPECT_TRUE(response(ApiCode::kInvalidJson).fields.empty());
}

TEST(RouteTable, EveryRouteIsFoundByItsMethodAlone) {
  for (const RouteRow& row : route_table()) {
    const std::string path = std::string(row.path) + (row.path.ends_with("s/") ? "x" : "");
    EXPECT_EQ(find_route(row.method, path, V1Alias::kNo).route, &row);
    EXPECT_THROW(find_route("DELETE", path, V1Alias::kNo), ApiError);
    const bool open = row.access == RouteAccess::kOpen;
    EXPECT_EQ(open, path == "/" || path == "/health" || path == "/ping" || path == "/health/live")
        << path;
  }
  EXPECT_EQ(find_route("POST", "/completions", V1Alias::kYes).route->kind, RouteKind::kCompletions);
  EXPECT_THROW(find_route("POST", "/completions", V1Alias::kNo), ApiError);
  EXPECT_THROW(find_route("GET", "/models", V1Alias::kYes), ApiError);
  for (const char* path : {"//", "/x", "/index.html"})
    EXPECT_THROW(find_route("GET", path, V1Alias::kYes), ApiError) << path;
}

TEST(RequestChecks, HostsOfThisMachine) {
  for (const char* host : {"localhost", "LocalHost:8000", "127.0.0.1", "127.1.2.3:1", "[::1]:8000"})
    EXPECT_NO_THROW(check_host(host, {})) << host;
  for (const char* host :
       {"", "example.org", "127.example.org", "localhost.example.org", "[::2]:8000", "x@localhost"})
    EXPECT_THROW(check_host(host, {}), ApiError) << host;
  EXPECT_NO_THROW(check_host("Facet.Example:8000", {"facet.example"}));
}

TEST(RequestChecks, PagesOfOtherOrigins) {
  const auto check = [](const char* origin, HostTrust trust) {
    http::RequestHead head;
    head.fields = {{"host", "LocalHost:8000"}, {"origin", origin}};
    check_origin(head, {"https://page.example"}, trust);
  };
  for (const HostTrust trust : {HostTrust::kNo, HostTrust::kYes}) {
    EXPECT_NO_THROW(check("https://page.example", trust));
    for (const char* origin :
         {"null", "", "http://localhost", "http://localhost:8001", "localhost:8000",
          "http://localhost:8000.evil.example", "file://localhost:8000"})
      EXPECT_THROW(check(origin, trust), ApiError) << origin;
  }
  for (const char* origin : {"http://localhost:8000", "https://localhost:8000"}) {
    EXPECT_NO_THROW(check(origin, HostTrust::kYes)) << origin;
    EXPECT_THROW(check(origin, HostTrust::kNo), ApiError) << origin;
  }
}

TEST(JsonWriter, LogprobsAreShortAndFinite) {
  JsonWriter json;
  json.open_array().logprob(-0.1F).logprob(-INFINITY).logprob(0).close_array();
  EXPECT_EQ(json.release(), "[-0.1,-9999.0,0]");
  EXPECT_EQ(json_text("a\"\n\x01"), "\"a\\\"\\n\\u0001\"");
}

}  // namespace
}  // namespace facet
