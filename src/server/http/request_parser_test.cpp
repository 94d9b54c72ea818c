#include "server/http/request_parser.h"

#include <gtest/gtest.h>

namespace facet::http {
namespace {

const Limits kLimits;

TEST(RequestParser, ReadsAHead) {
  RequestParser parser(kLimits);
  ASSERT_TRUE(
      parser.read_head("POST /a/b?c=d HTTP/1.1\r\nHOST: x\r\nX-Id:  7 \r\n"
                       "Content-Length: 3\r\nExpect: 100-Continue\r\n\r\n"));
  EXPECT_EQ(parser.head().method, "POST");
  EXPECT_EQ(parser.head().path, "/a/b");
  EXPECT_EQ(*parser.head().field("host"), "x");
  EXPECT_EQ(*parser.head().field("x-id"), "7");
  EXPECT_EQ(parser.content_length(), 3U);
  EXPECT_TRUE(parser.keep_alive());
  EXPECT_TRUE(parser.expects_continue());
  EXPECT_FALSE(parser.done());
  EXPECT_EQ(parser.read_body("ab", 3), 2U);
  EXPECT_EQ(parser.read_body("cGET", 3), 1U);
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(parser.body(), "abc");
}

TEST(RequestParser, AHeadThatIsNoneAnswersEveryQuestion) {
  RequestParser parser(kLimits);
  EXPECT_FALSE(parser.read_head("\x16\x03\x01\r\n\r\n"));
  EXPECT_EQ(parser.fault(), Fault::kBadRequest);
  EXPECT_FALSE(parser.keep_alive());
  EXPECT_FALSE(parser.expects_continue());
  EXPECT_EQ(parser.content_length(), 0U);
  RequestParser old(kLimits);
  EXPECT_FALSE(old.read_head("GET / HTTP/2.0\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(old.fault(), Fault::kVersion);
}

TEST(RequestParser, FieldsBehindAChunkedBodyAreNoneOfTheHead) {
  RequestParser parser(kLimits);
  ASSERT_TRUE(parser.read_head("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  EXPECT_EQ(parser.content_length(), std::nullopt);
  const std::string_view body = "2\r\nab\r\n0\r\nAuthorization: Bearer k\r\n\r\n";
  EXPECT_EQ(parser.read_body(body, 10), body.size());
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(parser.body(), "ab");
  EXPECT_EQ(parser.head().field("authorization"), nullptr);
}

TEST(RequestParser, BodiesEndAtTheirLimit) {
  RequestParser parser(kLimits);
  ASSERT_TRUE(parser.read_head("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  parser.read_body("2\r\nab\r\n2\r\ncd\r\n", 3);
  EXPECT_EQ(parser.fault(), Fault::kPayloadTooLarge);
}

}  // namespace
}  // namespace facet::http
