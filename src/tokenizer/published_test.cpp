// The published vocabulary and a small trained one against recorded encodings and themselves.

#include <boost/json.hpp>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <random>
#include <sstream>

#include "base/text.h"
#include "tests/support.h"
#include "tokenizer/bpe.h"
#include "tokenizer/test_vocab.h"
#include "tokenizer/vocabulary.h"

namespace facet {
namespace {

using test::indices;
using test::random_text;

/// The vocabulary of the published models, unpacked with xz; nullopt and a reason if it is not
/// here.
std::optional<std::string> published_vocab(std::string& why_not) {
  const auto packed = test::shared_path("tokenizer/gemma4-tokenizer.json.xz");
  if (!packed) {
    why_not = "reference data ../shared/tokenizer/gemma4-tokenizer.json.xz is not here";
    return std::nullopt;
  }
  std::string text;
  FILE* pipe = popen(("xz -dc '" + *packed + "'").c_str(), "r");
  if (pipe != nullptr) {
    std::vector<char> buffer(size_t{1} << 20);
    while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
      text.append(buffer.data(), got);
    }
    if (pclose(pipe) == 0) return text;
  }
  why_not = "xz could not unpack the published vocabulary";
  return std::nullopt;
}

std::vector<TokenId> tokens(const std::vector<int32_t>& numbers) {
  std::vector<TokenId> out;
  for (const int32_t number : numbers) out.push_back(TokenId{number});
  return out;
}

void expect_encoding(const Tokenizer& tokenizer,
                     ControlTokens control,
                     const std::string& text,
                     const std::vector<int32_t>& ids) {
  EXPECT_EQ(indices(tokenizer.encode(text, control)), ids) << printable(text);
  Encoder encoder(tokenizer);
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<TokenId> encoded;
    encoder.encode(text, control, encoded);
    EXPECT_EQ(indices(encoded), ids) << printable(text);
  }
  EXPECT_EQ(tokenizer.decode(tokens(ids), ControlText::kShow), text);
  IncrementalDecoder decoder(tokenizer, ControlText::kShow);
  std::string decoded;
  for (const int32_t id : ids) decoded += decoder.push(TokenId{id});
  EXPECT_EQ(decoded + decoder.flush(), text);
}

const std::vector<std::string> kMixture = {"\n",
                                           "\n\n",
                                           "\n\n\n",
                                           " ",
                                           "  ",
                                           "    ",
                                           "\t",
                                           "\t\t",
                                           "\r\n",
                                           "<",
                                           "/",
                                           ">",
                                           "> </",
                                           "</",
                                           ">\u2581</",
                                           "div",
                                           "The",
                                           " the",
                                           "ing",
                                           "3",
                                           "333",
                                           ".",
                                           "...",
                                           "'s",
                                           "\u00e9",
                                           "e\u0301",
                                           "\u4f60\u597d",
                                           "\u0915\u094d\u0937",
                                           "\U0001F600",
                                           "\U0001F468\u200d\U0001F469",
                                           "\u2581",
                                           "\u2581\u2581",
                                           "\xE2\x96",
                                           "\xFF",
                                           "\xC3",
                                           "\u0378",
                                           "{\"a\": 1}",
                                           "<bos>",
                                           "<0x0A>",
                                           "_",
                                           "==",
                                           "return",
                                           std::string(1, '\0')};

void expect_cuts_exact(const Vocabulary& vocabulary, const Tokenizer& tokenizer) {
  Encoder encoder(tokenizer);
  std::mt19937 random(13);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_text(random, kMixture, 1 + static_cast<size_t>(round) % 90);
    std::vector<TokenId> whole;
    encode_word(vocabulary, text, whole);
    std::vector<TokenId> cached;
    encoder.encode(text, ControlTokens::kIgnore, cached);
    ASSERT_EQ(indices(cached), indices(whole)) << printable(text);
    ASSERT_EQ(indices(tokenizer.encode(text)), indices(whole)) << printable(text);
    for (const TokenId id : whole) ASSERT_FALSE(tokenizer.is_control(id));
  }
}

/// Random ids, byte tokens among them: sent text never changes and joins to what decode gives.
void expect_incremental_exact(const Tokenizer& tokenizer, TokenId first_byte) {
  std::mt19937 random(17);
  std::uniform_int_distribution<int32_t> any(0, tokenizer.size() - 1);
  std::uniform_int_distribution<int32_t> byte(to_index(first_byte), to_index(first_byte) + 255);
  for (int round = 0; round < 2000; ++round) {
    IncrementalDecoder decoder(tokenizer, ControlText::kShow);
    std::vector<TokenId> ids;
    std::string joined;
    for (int i = 0; i < 24; ++i) {
      ids.push_back(TokenId{any(random) % 2 == 0 ? any(random) : byte(random)});
      std::string text = decoder.push(ids.back());
      joined += text;
      while (!text.empty()) {
        const size_t length = utf8_length(text);
        ASSERT_GT(length, 0U);
        text.erase(0, length);
      }
    }
    ASSERT_EQ(joined + decoder.flush(), tokenizer.decode(ids, ControlText::kShow));
  }
}

class Published : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (const auto json = published_vocab(why_not())) {
      vocabulary() = Vocabulary::parse(*json);
      tokenizer() = std::make_unique<Tokenizer>(Tokenizer::parse(*json));
    }
  }
  static void TearDownTestSuite() {
    vocabulary().reset();
    tokenizer().reset();
  }
  void SetUp() override {
    if (tokenizer() == nullptr) GTEST_SKIP() << why_not();
  }

  static std::string& why_not() {
    static std::string reason;
    return reason;
  }
  static std::unique_ptr<Tokenizer>& tokenizer() {
    static std::unique_ptr<Tokenizer> loaded;
    return loaded;
  }
  static std::unique_ptr<const Vocabulary>& vocabulary() {
    static std::unique_ptr<const Vocabulary> loaded;
    return loaded;
  }
};

TEST_F(Published, HasWhatTheSpecificationSays) {
  EXPECT_EQ(tokenizer()->size(), 262144);
  EXPECT_TRUE(tokenizer()->has_media());
  EXPECT_EQ(vocabulary()->controls.tokens().size(), kControlTokens.size());
  for (const ControlToken& token : kControlTokens) {
    EXPECT_EQ(tokenizer()->control_id(token.text), token.id);
    EXPECT_EQ(tokenizer()->control_text(token.id), token.text);
    EXPECT_EQ(tokenizer()->bytes_of(token.id), "");
    expect_encoding(*tokenizer(), ControlTokens::kRecognise, std::string(token.text),
                    {to_index(token.id)});
  }
  for (int32_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer()->bytes_of(TokenId{238 + byte}), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(tokenizer()->piece(TokenId{212}), "</s>");
  EXPECT_FALSE(tokenizer()->is_control(TokenId{212}));
}

TEST_F(Published, EncodesAndDecodesTheVectorsOfTheSpecification) {
  std::istringstream lines(test::read_text(test::data_path("tokenizer_vectors.jsonl")));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto row = boost::json::parse(line).as_object();
    expect_encoding(*tokenizer(),
                    row.contains("special") ? ControlTokens::kRecognise : ControlTokens::kIgnore,
                    boost::json::value_to<std::string>(row.at("text")),
                    boost::json::value_to<std::vector<int32_t>>(row.at("ids")));
  }
  EXPECT_EQ(count, 54);
}

TEST_F(Published, EncodesAndDecodesRecordedRandomTexts) {
  FACET_REQUIRE_SHARED(path, "tokenizer/vectors.json");
  const auto file = boost::json::parse(test::read_text(path));
  const auto& rows = file.at("rows").as_array();
  for (const auto& row : rows) {
    expect_encoding(*tokenizer(), ControlTokens::kRecognise,
                    boost::json::value_to<std::string>(row.at("text")),
                    boost::json::value_to<std::vector<int32_t>>(row.at("ids")));
  }
  EXPECT_EQ(rows.size(), 150U);
}

TEST_F(Published, EncodesAndDecodesTheTextsOfLlamaCpp) {
  FACET_REQUIRE_SHARED(inputs_path, "tokenizer/gemma4-vectors.inp");
  FACET_REQUIRE_SHARED(outputs_path, "tokenizer/gemma4-vectors.out");
  constexpr std::string_view kMarker = "\n__ggml_vocab_test__\n";
  std::string inputs = test::read_text(inputs_path);
  std::istringstream outputs(test::read_text(outputs_path));
  int count = 0;
  for (std::string line; std::getline(outputs, line); ++count) {
    const size_t end = inputs.find(kMarker);
    const std::string text = inputs.substr(0, end);
    inputs.erase(0, end == std::string::npos ? end : end + kMarker.size());
    std::istringstream numbers(line);
    std::vector<int32_t> ids;
    for (int32_t id = 0; numbers >> id;) ids.push_back(id);
    expect_encoding(*tokenizer(), ControlTokens::kIgnore, text, ids);
  }
  EXPECT_EQ(count, 46);
  EXPECT_EQ(inputs, "");
}

TEST_F(Published, CutsAreExact) { expect_cuts_exact(*vocabulary(), *tokenizer()); }

TEST_F(Published, IncrementalDecodingIsExact) {
  expect_incremental_exact(*tokenizer(), TokenId{238});
}

TEST_F(Published, BooksEncodeAsOneWordAndComeBack) {
  FACET_REQUIRE_SHARED(folder, "corpus");
  Encoder encoder(*tokenizer());
  int count = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const std::string text = test::read_text(file.path().string());
    std::vector<TokenId> ids;
    encoder.encode(text, ControlTokens::kIgnore, ids);
    EXPECT_EQ(tokenizer()->decode(ids, ControlText::kDrop), text) << file.path();
    if (++count > 4) continue;
    std::vector<TokenId> whole;
    encode_word(*vocabulary(), text, whole);
    EXPECT_EQ(indices(ids), indices(whole)) << file.path();
  }
  EXPECT_GT(count, 0);
}

TEST_F(Published, EveryOrdinaryEntryDecodesAlone) {
  for (int32_t id = 0; id < tokenizer()->size(); ++id) {
    if (tokenizer()->is_control(TokenId{id})) continue;
    std::string text(tokenizer()->piece(TokenId{id}));
    if (byte_of_piece(text) >= 0) continue;
    for (size_t at = text.find("\u2581"); at != std::string::npos; at = text.find("\u2581", at)) {
      text.replace(at, 3, " ");
    }
    ASSERT_EQ(tokenizer()->bytes_of(TokenId{id}), text);
  }
}

TEST_F(Published, AMegabyteOfAnythingTakesNoQuadraticTime) {
  for (const std::string unit :
       {"a", "\n", " ", "\t", "\U0001F600", "\u0378", "\xFF", "> </", "=", "3"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const std::clock_t start = std::clock();  // processor time: other programs do not count
    const auto ids = tokenizer()->encode(text);
    const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    RecordProperty(printable(unit), std::to_string(took));
    EXPECT_LT(took, 10) << printable(unit);
    if (unit != "\xFF") EXPECT_EQ(tokenizer()->decode(ids, ControlText::kDrop), text);
  }
}

TEST(SmallVocabulary, EncodesExactlyAndComesBack) {
  FACET_REQUIRE_SHARED(path, "fable/tokenizer.json");
  FACET_REQUIRE_SHARED(heldout, "fable/heldout.txt");
  const Tokenizer tokenizer = Tokenizer::load(path);
  EXPECT_EQ(tokenizer.size(), 4096);
  EXPECT_FALSE(tokenizer.has_media());
  expect_cuts_exact(*Vocabulary::parse(test::read_text(path)), tokenizer);
  const auto first_byte = tokenizer.encode(std::string_view("\xC0", 1)).at(0);
  EXPECT_EQ(tokenizer.piece(first_byte), "<0xC0>");
  expect_incremental_exact(tokenizer, TokenId{to_index(first_byte) - 0xC0});
  const std::string text = test::read_text(heldout);
  const auto ids = tokenizer.encode(text);
  EXPECT_EQ(tokenizer.decode(ids, ControlText::kDrop), text);
  EXPECT_LT(ids.size() * 3, text.size());
}

}  // namespace
}  // namespace facet
