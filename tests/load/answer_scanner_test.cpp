#include "tests/load/answer_scanner.h"

#include <gtest/gtest.h>

namespace facet::test {
namespace {

constexpr std::string_view kPlain =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
constexpr std::string_view kStream =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    "9\r\ndata: 1\n\n\r\n10\r\ndata: 2\n\ndata: [\r\n7\r\nDONE]\n\n\r\n0\r\n\r\n";

TEST(AnswerScanner, FollowsAnswersHoweverTheyAreCut) {
  for (size_t piece = 1; piece < 80; ++piece) {
    const std::string both = std::string(kPlain) + std::string(kStream);
    AnswerScanner scanner;
    size_t at = 0;
    const auto read_one = [&] {
      scanner = AnswerScanner();
      while (!scanner.done() && at < both.size()) at += scanner.take(both.substr(at, piece));
    };
    read_one();
    EXPECT_EQ(at, kPlain.size());
    EXPECT_EQ(scanner.status(), 503);
    EXPECT_TRUE(scanner.closes());
    read_one();
    EXPECT_EQ(at, both.size());
    EXPECT_TRUE(scanner.done());
    EXPECT_EQ(scanner.status(), 200);
    EXPECT_FALSE(scanner.closes());
    EXPECT_EQ(scanner.events(), 3);
    EXPECT_TRUE(scanner.said_done());
  }
}

TEST(AnswerScanner, KnowsACompleteStream) {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  AnswerScanner whole;
  whole.take(head + "9\r\ndata: 1\n\n\r\n7\r\ndata: [\r\n7\r\nDONE]\n\n\r\n0\r\n\r\n");
  EXPECT_TRUE(whole.done());
  EXPECT_EQ(whole.events(), 2);
  EXPECT_TRUE(whole.said_done());
  AnswerScanner cut;
  cut.take(head + "9\r\ndata: 1\n\n\r\n0\r\n\r\n");
  EXPECT_TRUE(cut.done());
  EXPECT_EQ(cut.events(), 1);
  EXPECT_FALSE(cut.said_done());
}

}  // namespace
}  // namespace facet::test
