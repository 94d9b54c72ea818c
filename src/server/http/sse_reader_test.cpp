#include "server/http/sse_reader.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace facet::http {
namespace {

TEST(SseReader, TakesEventsHoweverTheyAreCut) {
  const std::string stream =
      ": ping\n\ndata: {\"a\":1}\n\nevent: x\ndata:two\r\ndata: lines\r\n\r\nid: 7\n\ndata\n\n"
      "data: [DONE]\n\ndata: never ended";
  const std::vector<std::string> want = {"{\"a\":1}", "two\nlines", "", "[DONE]"};
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    std::vector<std::string> seen;
    SseReader reader([&](std::string_view data) { seen.emplace_back(data); });
    for (size_t at = 0; at < stream.size(); at += piece)
      reader.push(std::string_view(stream).substr(at, piece));
    EXPECT_EQ(seen, want) << "pieces of " << piece;
  }
}

}  // namespace
}  // namespace facet::http
