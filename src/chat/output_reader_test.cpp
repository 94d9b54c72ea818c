#include "chat/output_reader.h"

#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "chat/output_test_parts.h"

namespace facet {
namespace {

namespace json = boost::json;
using test::JoinedStream;
using test::OutputPiece;

struct Outcome {
  OutputResult result;
  JoinedStream stream;
};

// The control tokens of text, byte tokens where Gemma 4 has them, and fillers.
Tokenizer byte_tokenizer() {
  json::object vocabulary;
  json::array added;
  constexpr int32_t kFirstByte = 238;
  for (int32_t id = 0; id < kFirstByte + 256; ++id) {
    std::string text = "<unused" + std::to_string(id) + ">";
    if (id >= kFirstByte) {
      constexpr std::string_view kHex = "0123456789ABCDEF";
      const auto byte = static_cast<size_t>(id - kFirstByte);
      text = std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">";
    }
    for (const ControlToken& token : kControlTokens) {
      if (to_index(token.id) != id) continue;
      text = token.text;
      added.push_back({{"id", id},
                       {"content", text},
                       {"special", true},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"single_word", false},
                       {"normalized", false}});
    }
    vocabulary[text] = id;
  }
  return Tokenizer::parse(json::serialize(json::object{
      {"added_tokens", added},
      {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}},
      {"pre_tokenizer", nullptr},
      {"model",
       {{"type", "BPE"},
        {"byte_fallback", true},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"vocab", vocabulary},
        {"merges", json::array{}}}}}));
}

Outcome read_bytes(const Tokenizer& tokenizer,
                   const std::vector<OutputPiece>& pieces,
                   const OutputOptions& options,
                   FinishCause cause) {
  OutputReader reader(tokenizer, options);
  OutputParser::Events events;
  for (const OutputPiece& piece : pieces) {
    if (piece.control) reader.push(*piece.control, events);
    for (const char c : piece.text) {
      reader.push(TokenId{238 + static_cast<unsigned char>(c)}, events);
    }
  }
  reader.finish(cause, events);
  Outcome outcome{reader.result(), {}};
  for (const OutputEvent& event : events) outcome.stream.add(event);
  return outcome;
}

TEST(OutputReader, VectorsByteByByte) {
  const Tokenizer tokenizer = byte_tokenizer();
  for (const test::OutputVector& vector : test::recorded_vectors()) {
    SCOPED_TRACE(vector.name);
    const Outcome outcome = read_bytes(tokenizer, vector.pieces, vector.options, vector.cause);
    EXPECT_EQ(outcome.result.content, vector.want.content);
    EXPECT_EQ(outcome.result.reasoning, vector.want.reasoning);
    EXPECT_EQ(outcome.result.calls, vector.want.calls);
    EXPECT_EQ(outcome.result.finish_reason(), vector.finish);
    EXPECT_EQ(outcome.stream.complete, vector.want.calls);
  }
}

TEST(OutputReader, HeldBytesStayInTheirChannel) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::string cut = "\xE2\x82";
  const auto read = [&](const std::string& shown) {
    return read_bytes(tokenizer, test::output_pieces(shown), {}, FinishCause::kLength).result;
  };
  EXPECT_EQ(read("A" + cut).content, "A\uFFFD");
  EXPECT_EQ(read("A" + cut + "<|think|>\xAC").content, "A\uFFFD\uFFFD");
  const OutputResult both = read("<|channel>thought\nT" + cut + "<channel|>" + "\xAC" + "B" + cut +
                                 "<|tool_call>f{a:<|\"|>" + cut + "<|\"|>}<tool_call|><turn|>");
  EXPECT_EQ(both.reasoning, "T\uFFFD");
  EXPECT_EQ(both.content,
            "\uFFFD"
            "B\uFFFD");
  ASSERT_EQ(both.calls.size(), 1U);
  EXPECT_EQ(both.calls[0].arguments, "{\"a\":\"\uFFFD\"}");
}

}  // namespace
}  // namespace facet
