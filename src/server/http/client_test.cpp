#include "server/http/client.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace facet::http {
namespace {

TEST(Url, HasItsParts) {
  const Url plain = Url::parse("http://127.0.0.1:8000");
  EXPECT_FALSE(plain.tls);
  EXPECT_EQ(plain.authority(), "127.0.0.1:8000");
  EXPECT_EQ(plain.prefix, "");
  const Url tls = Url::parse("https://models.example/api/");
  EXPECT_TRUE(tls.tls);
  EXPECT_EQ(tls.port, "443");
  EXPECT_EQ(tls.authority(), "models.example");
  EXPECT_EQ(tls.prefix, "/api");
  const Url six = Url::parse("http://[::1]:80/");
  EXPECT_EQ(six.host, "::1");
  EXPECT_EQ(six.authority(), "[::1]");
}

TEST(Url, RefusesWhatItIsNot) {
  for (const char* text : {"", "localhost:8000", "ftp://a", "http://", "http://:80", "http://a:b",
                           "http://a:", "http://[::1", "http://[::1]x", "http://a:123456"}) {
    EXPECT_THROW(Url::parse(text), Error) << text;
  }
}

TEST(Client, NamesTheServerThatIsNotThere) {
  try {
    send(Url::parse("http://127.0.0.1:1"), {.path = "/"}, {}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_EQ(error.place(), "127.0.0.1:1");
  }
}

}  // namespace
}  // namespace facet::http
