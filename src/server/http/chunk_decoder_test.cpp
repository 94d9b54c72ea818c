#include "server/http/chunk_decoder.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace facet::http {
namespace {

const Limits kLimits;

struct Decoded {
  std::string body;
  size_t taken = 0;
  bool done = false;
  std::optional<Fault> fault;
};

/// Given in pieces of `piece` bytes.
Decoded decode_in(const std::string& bytes, size_t piece, uint64_t limit) {
  ChunkDecoder decoder(kLimits);
  Decoded result;
  for (size_t at = 0; at < bytes.size() && !decoder.done() && !decoder.fault(); at += piece) {
    const std::string_view part = std::string_view(bytes).substr(at, piece);
    result.taken += decoder.take(part, limit, result.body);
  }
  result.done = decoder.done();
  result.fault = decoder.fault();
  return result;
}

/// However it is cut.
Decoded decode(const std::string& bytes, uint64_t limit = 1000) {
  const Decoded whole = decode_in(bytes, bytes.size(), limit);
  for (size_t piece = 1; piece < std::min<size_t>(bytes.size(), 40); ++piece) {
    const Decoded parts = decode_in(bytes, piece, limit);
    EXPECT_EQ(parts.done, whole.done) << piece;
    EXPECT_EQ(parts.fault, whole.fault) << piece;
    if (whole.done) EXPECT_EQ(parts.body, whole.body) << piece;
    if (whole.done) EXPECT_EQ(parts.taken, whole.taken) << piece;
  }
  return whole;
}

TEST(ChunkDecoder, JoinsChunks) {
  const std::string bytes = "3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
  const Decoded decoded = decode(bytes + "GET");
  EXPECT_TRUE(decoded.done);
  EXPECT_EQ(decoded.body, "abc0123456789");
  EXPECT_EQ(decoded.taken, bytes.size());
  EXPECT_TRUE(decode("0\r\n\r\n").done);
}

TEST(ChunkDecoder, RefusesWhatIsNone) {
  for (const char* bytes :
       {"\r\n", "x\r\n", "3 \r\nabc\r\n", " 3\r\nabc\r\n", "+3\r\n", "-1\r\n", "0x3\r\n", "3\nabc",
        "3\r\nabcd\r\n", "3\r\nabc\n", "3\rx", "00000000000000003\r\n", "fffffffffffffffff\r\n",
        "3;\x01\r\n", "0\r\nX y\r\n\r\n", "0\r\n: y\r\n\r\n", "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n"})
    EXPECT_EQ(decode(bytes).fault, Fault::kBadRequest) << bytes;
  EXPECT_EQ(decode("3;" + std::string(254, 'x') + "\r\nabc\r\n0\r\n\r\n").fault, std::nullopt);
  EXPECT_EQ(decode("3;" + std::string(256, 'x') + "\r\n").fault, Fault::kBadRequest);
}

TEST(ChunkDecoder, HasLimits) {
  EXPECT_TRUE(decode("3\r\nabc\r\n0\r\n\r\n", 3).done);
  EXPECT_EQ(decode("3\r\nabc\r\n1\r\nd\r\n", 3).fault, Fault::kPayloadTooLarge);
  EXPECT_EQ(decode("ffffffffffffffff\r\n", 3).fault, Fault::kPayloadTooLarge);
  std::string many;
  for (int i = 0; i < kLimits.chunks; ++i) many += "1\r\na\r\n";
  EXPECT_EQ(decode_in(many, 4096, 1 << 20).fault, std::nullopt);
  EXPECT_EQ(decode_in(many + "1\r\n", 4096, 1 << 20).fault, Fault::kBadRequest);
  std::string trailers = "0\r\n";
  for (int i = 0; i <= kLimits.fields; ++i) trailers += "X: y\r\n";
  EXPECT_EQ(decode(trailers).fault, Fault::kHeadersTooLarge);
}

}  // namespace
}  // namespace facet::http
