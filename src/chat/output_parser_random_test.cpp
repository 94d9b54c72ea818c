#include <array>
#include <gtest/gtest.h>
#include <random>

#include "chat/output_parser.h"
#include "chat/output_test_parts.h"

namespace facet {
namespace {

using test::OutputPiece;

constexpr std::array<std::string_view, 45> kTexts = {
    "{",      "}",       "[",         "]",
    "(",      ")",       ",",         ":",
    "\"",     "\\",      "\n",        " ",
    "a",      "f",       "call:",     "call:f",
    "f{a:",   "f(",      "thought\n", "thou",
    "ght",    "model\n", "mo",        "1",
    "-2.5e3", "007",     "true",      "None",
    "n:",     "s:",      "b:",        "l:[",
    "o:{",    "é",       "🦙",      "\xE3\x80\x80",
    "\t",     "\x01",    "EN",        "END",
    "D",      "\\u00",   "\"x\"",     "<|tool_call>",
    "\\\""};

constexpr std::array<TokenId, 14> kControls = {control::kToolCallOpen,    control::kToolCallOpen,
                                               control::kToolCallClose,   control::kToolCallClose,
                                               control::kStringDelimiter, control::kStringDelimiter,
                                               control::kStringDelimiter, control::kStringDelimiter,
                                               control::kChannelOpen,     control::kChannelClose,
                                               control::kImage,           control::kTurnOpen,
                                               control::kTurnClose,       control::kThink};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  size_t below(size_t limit) { return engine_() % limit; }
  bool one_in(size_t n) { return below(n) == 0; }

 private:
  std::mt19937 engine_;
};

std::vector<OutputPiece> random_pieces(Random& random) {
  std::vector<OutputPiece> pieces;
  if (random.one_in(8)) pieces.push_back({{}, control::kTurnOpen});
  if (random.one_in(2)) {
    pieces.push_back({"", control::kToolCallOpen});
    pieces.push_back({"call:f{", std::nullopt});
  }
  for (size_t i = random.below(30); i > 0; --i) {
    if (random.one_in(3)) {
      // End tokens are rare, so that the rest gets its turn.
      TokenId id = kControls[random.below(kControls.size())];
      if ((id == control::kTurnOpen || id == control::kTurnClose) && !random.one_in(8)) {
        id = control::kToolCallClose;
      }
      pieces.push_back({{}, id});
    } else {
      pieces.push_back({std::string(kTexts[random.below(kTexts.size())]), std::nullopt});
    }
  }
  return pieces;
}

OutputOptions random_options(Random& random) {
  OutputOptions options;
  options.thinking = random.one_in(2);
  options.open_thought = random.one_in(4);
  if (random.one_in(2)) {
    options.tools = {{"f",
                      {{"n", {"integer", "number", "null"}},
                       {"s", {"string"}},
                       {"b", {"boolean"}},
                       {"l", {"array"}},
                       {"o", {"object"}},
                       {"a", {"array", "integer"}}}}};
  }
  if (random.one_in(3)) options.stop = {"END", "D\n", "\\"};
  if (random.one_in(2)) options.stop_text = StopText::kKeep;
  return options;
}

std::string shown(const std::vector<OutputPiece>& pieces) {
  std::string text;
  for (const OutputPiece& piece : pieces) {
    text += piece.control ? "<" + std::to_string(to_index(*piece.control)) + ">" : piece.text;
  }
  return text;
}

TEST(OutputParserRandom, NoSplitChangesTheResultAndArgumentsAreJson) {
  Random random(20260709);
  constexpr std::array<FinishCause, 3> kCauses = {FinishCause::kEndToken, FinishCause::kLength,
                                                  FinishCause::kStopToken};
  int64_t calls = 0;
  int64_t thoughts = 0;
  int64_t contents = 0;
  int64_t stops = 0;
  for (int32_t round = 0; round < 100000; ++round) {
    const std::vector<OutputPiece> pieces = random_pieces(random);
    const OutputOptions options = random_options(random);
    const FinishCause cause = kCauses[random.below(kCauses.size())];
    SCOPED_TRACE(shown(pieces));
    OutputResult result;
    ASSERT_EQ(test::fault_of_output(pieces, options, cause, result), "");
    calls += static_cast<int64_t>(result.calls.size());
    thoughts += result.reasoning.empty() ? 0 : 1;
    contents += result.content.empty() ? 0 : 1;
    stops += result.stop_string ? 1 : 0;
  }
  // The sequences must reach what they are meant to test.
  EXPECT_GT(calls, 50000);
  EXPECT_GT(thoughts, 10000);
  EXPECT_GT(contents, 20000);
  EXPECT_GT(stops, 1000);
}

}  // namespace
}  // namespace facet
