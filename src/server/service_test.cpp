// A server before its model is there.

#include "server/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http/listener.h"

namespace facet {
namespace {

using testing::HasSubstr;

/// Keeps what it is answered.
class FakeExchange final : public http::Exchange {
 public:
  void respond(http::Response response) override { answers.push_back(std::move(response)); }
  void begin_stream(http::Response /*head*/) override {}
  void write(std::string_view /*data*/) override {}
  void end_stream(http::After /*after*/) override {}
  void abort() override {}
  void on_gone(std::function<void()> /*gone*/) override {}

  std::vector<http::Response> answers;
};

ServerSettings settings() {
  ServerSettings result;
  result.names = {"fable"};
  return result;
}

http::RequestHead head(std::string method, std::string path, std::vector<http::Field> more = {}) {
  http::RequestHead result;
  result.method = std::move(method);
  result.path = std::move(path);
  result.fields = std::move(more);
  result.fields.push_back({"host", "localhost"});
  return result;
}

std::string value_of(const http::Response& response, const std::string& name) {
  for (const http::Field& field : response.fields) {
    if (field.name == name) return field.value;
  }
  return {};
}

TEST(Service, SaysHowMuchOfTheModelIsRead) {
  http::Loop loop(0);
  Service service(loop, settings(), {});
  service.set_progress(42);
  for (const char* path : {"/health", "/ping", "/health/ready", "/v1/models", "/tokenizer_info"}) {
    const auto admission = service.admit(head("GET", path));
    ASSERT_TRUE(admission.refusal) << path;
    EXPECT_EQ(admission.refusal->status, 503);
    EXPECT_THAT(admission.refusal->body, HasSubstr("\"code\":\"model_loading\""));
    EXPECT_THAT(admission.refusal->body, HasSubstr("42 %"));
    EXPECT_NE(value_of(*admission.refusal, "Retry-After"), "");
    EXPECT_NE(value_of(*admission.refusal, "X-Request-Id"), "");
  }
  EXPECT_EQ(service.admit(head("POST", "/v1/chat/completions")).refusal->status, 503);
  EXPECT_FALSE(service.admit(head("GET", "/health/live")).refusal);
  const auto exchange = std::make_shared<FakeExchange>();
  service.handle(head("GET", "/health/live"), {}, exchange);
  ASSERT_EQ(exchange->answers.size(), 1U);
  EXPECT_EQ(exchange->answers[0].status, 200);
}

http::Response page(Service& service, std::vector<http::Field> more = {}) {
  const http::RequestHead request = head("GET", "/", std::move(more));
  EXPECT_FALSE(service.admit(request).refusal);
  const auto exchange = std::make_shared<FakeExchange>();
  service.handle(request, {}, exchange);
  return exchange->answers.at(0);
}

TEST(Service, ThePageNeedsNoKeyAndNoModel) {
  http::Loop loop(0);
  Service service(loop, settings(), KeyRing::parse(std::string(32, 'k'), "keys"));
  const http::Response first = page(service);
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.content_type, "text/html; charset=utf-8");
  EXPECT_EQ(first.body, web_page_text());
  EXPECT_EQ(value_of(first, "Cache-Control"), "no-cache");
  EXPECT_THAT(value_of(first, "Content-Security-Policy"),
              testing::AllOf(testing::StartsWith("default-src 'none'; script-src 'sha256-"),
                             HasSubstr("connect-src 'self'"),
                             HasSubstr("require-trusted-types-for 'script'"),
                             testing::Not(HasSubstr("unsafe"))));
  const std::string tag = value_of(first, "ETag");
  const http::Response known = page(service, {{"if-none-match", tag}});
  EXPECT_EQ(known.status, 304);
  EXPECT_EQ(known.body, "");
  EXPECT_EQ(value_of(known, "ETag"), tag);
  EXPECT_EQ(page(service, {{"if-none-match", "\"other\""}}).status, 200);
  // What the page itself asks for carries the origin that it came from.
  EXPECT_EQ(page(service, {{"origin", "http://localhost"}}).status, 200);
  const auto foreign = service.admit(head("GET", "/", {{"origin", "http://localhost:1"}}));
  EXPECT_EQ(foreign.refusal->status, 403);
}

TEST(Service, ThePageCanBeLeftOut) {
  http::Loop loop(0);
  ServerSettings without = settings();
  without.web = false;
  Service service(loop, without, {});
  EXPECT_EQ(page(service).status, 404);
}

TEST(WebPage, TheHashesAreThoseOfStyleAndScript) {
  // printf a | openssl dgst -sha256 -binary | base64, and the same for b.
  const WebPage small("<style>a</style><script type=\"module\">b</script>");
  const std::string policy = value_of(small.answer({}), "Content-Security-Policy");
  EXPECT_THAT(policy, HasSubstr("style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"));
  EXPECT_THAT(policy,
              HasSubstr("script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='"));
}

TEST(Service, WrongKeysFromAfarAreCounted) {
  http::Loop loop(0);
  Service service(loop, settings(), KeyRing::parse(std::string(32, 'k'), "keys"));
  http::RequestHead from_afar = head("GET", "/v1/models", {{"x-api-key", "wrong"}});
  from_afar.peer = "203.0.113.7";
  for (int i = 0; i < 20; ++i) EXPECT_EQ(service.admit(from_afar).refusal->status, 401);
  const auto limited = service.admit(from_afar);
  EXPECT_EQ(limited.refusal->status, 429);
  EXPECT_THAT(limited.refusal->body, HasSubstr("rate_limit_exceeded"));
  EXPECT_NE(value_of(*limited.refusal, "Retry-After"), "");
  http::RequestHead near = from_afar;
  near.peer_is_local = true;
  for (int i = 0; i < 30; ++i) EXPECT_EQ(service.admit(near).refusal->status, 401);
}

TEST(Service, OverCapacityOnlyHealthIsAnswered) {
  http::Loop loop(0);
  Service service(loop, settings(), {});
  http::RequestHead request = head("GET", "/v1/models");
  request.over_capacity = true;
  EXPECT_THAT(service.admit(request).refusal->body, HasSubstr("server_overloaded"));
  request.path = "/health/live";
  EXPECT_FALSE(service.admit(request).refusal);
}

TEST(Listener, ListensBeforeTheLoopRuns) {
  http::Loop loop(0);
  Service service(loop, settings(), {});
  http::ListenOptions options;
  options.port = 0;
  const http::Listener listener(loop, service, options);
  EXPECT_THAT(listener.url(), testing::StartsWith("http://127.0.0.1:"));
  options.port = static_cast<uint16_t>(std::stoi(listener.url().substr(17)));
  EXPECT_THROW(http::Listener(loop, service, options), Error);
}

}  // namespace
}  // namespace facet
