// openapi.json against the table of routes and the table of codes.

#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <string>

#include "server/information.h"
#include "server/route_table.h"

namespace facet {
namespace {

namespace json = boost::json;

/// "GET /v1/models/" for "/v1/models/{id}".
std::string route_name(std::string_view method, std::string_view path) {
  std::string name(method);
  for (char& c : name) c = static_cast<char>(std::toupper(c));
  return name + " " + std::string(path.substr(0, path.find('{')));
}

class OpenApi : public testing::Test {
 protected:
  const json::value& operation(const RouteRow& row) {
    for (const auto& [path, item] : document_.at("paths").as_object()) {
      for (const auto& [method, operation] : item.as_object()) {
        if (route_name(method, path) == route_name(row.method, row.path)) return operation;
      }
    }
    throw std::runtime_error("not described: " + route_name(row.method, row.path));
  }

  const json::value document_ = json::parse(openapi_text());
};

TEST_F(OpenApi, DescribesEveryRouteAndNoOther) {
  std::set<std::string> described;
  for (const auto& [path, item] : document_.at("paths").as_object()) {
    for (const auto& [method, operation] : item.as_object())
      described.insert(route_name(method, path));
  }
  std::set<std::string> routes;
  for (const RouteRow& row : route_table()) routes.insert(route_name(row.method, row.path));
  EXPECT_EQ(described, routes);
  EXPECT_EQ(document_.at("openapi").as_string(), "3.1.0");
  EXPECT_THAT(std::string(document_.at("info").at("version").as_string()),
              testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST_F(OpenApi, EveryStatusIsDeclared) {
  for (const RouteRow& row : route_table()) {
    // What any request may get: from the protocol, the checks of its peer, the state of the server.
    std::set<std::string> wanted = {"200", "400", "403", "408", "413",
                                    "414", "421", "431", "503", "505"};
    if (row.access != RouteAccess::kOpen) wanted.insert({"401", "429"});
    if (row.access == RouteAccess::kAdmin) wanted.insert("404");
    if (row.method == "POST") wanted.insert("415");
    switch (row.kind) {
      case RouteKind::kChat:
      case RouteKind::kCompletions:
      case RouteKind::kGenerate:
        wanted.insert({"404", "500"});
        break;
      case RouteKind::kModel:
      case RouteKind::kTokenize:
      case RouteKind::kDetokenize:
      case RouteKind::kApplyTemplate:
        wanted.insert("404");
        break;
      case RouteKind::kWebPage:
        wanted.insert({"304", "404"});
        break;
      case RouteKind::kHealthGenerate:
        wanted.insert("500");
        break;
      case RouteKind::kFlushCache:
        wanted.insert("409");
        break;
      default:
        break;
    }
    std::set<std::string> declared;
    for (const auto& [status, response] : operation(row).at("responses").as_object())
      declared.insert(std::string(status));
    EXPECT_EQ(declared, wanted) << row.path;
  }
}

TEST_F(OpenApi, RoutesWithoutAKeySaySo) {
  for (const RouteRow& row : route_table()) {
    const bool open = operation(row).as_object().contains("security");
    EXPECT_EQ(open, row.access == RouteAccess::kOpen) << row.path;
    const bool admin = operation(row).at("tags").at(0).as_string() == "admin";
    EXPECT_EQ(admin, row.access == RouteAccess::kAdmin) << row.path;
  }
}

}  // namespace
}  // namespace facet
