#include "server/http/head_scanner.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <string>

namespace facet::http {
namespace {

const Limits kLimits;

/// What comes of a head given as a whole; every split into two must give the same.
struct Scanned {
  size_t length = 0;
  std::optional<Fault> fault;
};

Scanned scan(const std::string& head) {
  HeadScanner whole(kLimits);
  Scanned result;
  result.length = whole.scan(head);
  result.fault = whole.fault();
  for (size_t cut = 0; cut<head.size(); cut += head.size()> 300 ? 997 : 1) {
    HeadScanner parts(kLimits);
    size_t length = parts.scan(std::string_view(head).substr(0, cut));
    if (length == 0 && !parts.fault()) length = parts.scan(head);
    EXPECT_EQ(length, result.length) << "cut at " << cut;
    EXPECT_EQ(parts.fault(), result.fault) << "cut at " << cut;
  }
  return result;
}

std::string with_fields(int count, size_t value_bytes) {
  std::string head = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < count; ++i)
    head += fmt::format("X{:02}: {}\r\n", i, std::string(value_bytes, 'v'));
  return head + "\r\n";
}

TEST(HeadScanner, FindsTheEnd) {
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(scan(head).length, head.size());
  EXPECT_EQ(scan(head + "body\n\r").length, head.size());
  EXPECT_EQ(scan("GET / HTTP/1.1\r\nHost: x\r\n").length, 0U);
  EXPECT_EQ(scan("GET / HTTP/1.1\r\nHost: x\r\n").fault, std::nullopt);
}

TEST(HeadScanner, RefusesWhatReadersDisagreeOn) {
  for (const std::string& head :
       {std::string("GET / HTTP/1.1\n"), std::string("GET / HTTP/1.1\r\nA: b\n\r\n"),
        std::string("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n"), std::string("GET / HTTP/1.1\r\r\n"),
        std::string("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n"), std::string("\r\nGET"),
        std::string("GET / HTTP/1.1\r\nA: \0\r\n\r\n", 24)}) {
    EXPECT_EQ(scan(head).fault, Fault::kBadRequest) << head;
  }
}

TEST(HeadScanner, LimitsHoldAtTheBorder) {
  EXPECT_EQ(scan(with_fields(64, 1)).fault, std::nullopt);
  EXPECT_EQ(scan(with_fields(65, 1)).fault, Fault::kHeadersTooLarge);
  EXPECT_EQ(scan(with_fields(1, kLimits.field - 5)).fault, std::nullopt);
  EXPECT_EQ(scan(with_fields(1, kLimits.field - 4)).fault, Fault::kHeadersTooLarge);
  EXPECT_EQ(scan(with_fields(16, 1100)).fault, Fault::kHeadersTooLarge);
  const std::string line(kLimits.request_line, 'x');
  EXPECT_EQ(scan(line + "\r\n").fault, std::nullopt);
  EXPECT_EQ(scan(line + "x\r\n").fault, Fault::kUriTooLong);
  EXPECT_EQ(scan(line + "xx").fault, Fault::kUriTooLong) << "before the line's end";
}

}  // namespace
}  // namespace facet::http
