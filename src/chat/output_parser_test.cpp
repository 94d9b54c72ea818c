#include "chat/output_parser.h"

#include <functional>
#include <gtest/gtest.h>

#include "chat/output_test_parts.h"

namespace facet {
namespace {

using test::JoinedStream;
using test::OutputPiece;
using test::OutputVector;

// Where a piece of text is cut: called with the offset of each character but the first.
using Cut = std::function<bool(size_t offset)>;

struct Outcome {
  OutputResult result;
  JoinedStream stream;
};

Outcome parse(const std::vector<OutputPiece>& pieces,
              const OutputOptions& options,
              FinishCause cause,
              const Cut& cut) {
  OutputParser parser(options);
  Outcome outcome;
  size_t offset = 0;  // over all pieces
  const auto take = [&](const OutputParser::Events& events) {
    for (const OutputEvent& event : events) outcome.stream.add(event);
  };
  for (const OutputPiece& piece : pieces) {
    OutputParser::Events events;
    if (piece.control) parser.push_control(*piece.control, events);
    std::string text;
    for (const char c : piece.text) {
      const bool inside = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
      if (!inside && !text.empty() && cut(offset))
        parser.push_text(std::exchange(text, {}), events);
      text += c;
      ++offset;
    }
    parser.push_text(text, events);
    take(events);
  }
  OutputParser::Events events;
  parser.finish(cause, events);
  take(events);
  outcome.result = parser.result();
  return outcome;
}

Outcome parse(std::string_view shown,
              const OutputOptions& options = {},
              FinishCause cause = FinishCause::kLength) {
  return parse(test::output_pieces(shown), options, cause, [](size_t) { return false; });
}

// "content|reasoning|name(arguments)…|finish" of the whole, checked against the stream.
std::string summary(std::string_view shown,
                    const OutputOptions& options = {},
                    FinishCause cause = FinishCause::kLength) {
  const Outcome outcome = parse(shown, options, cause);
  EXPECT_EQ(outcome.stream.content, outcome.result.content);
  EXPECT_EQ(outcome.stream.reasoning, outcome.result.reasoning);
  EXPECT_EQ(outcome.stream.complete, outcome.result.calls);
  std::string text = outcome.result.content + "|" + outcome.result.reasoning + "|";
  for (const OutputCall& call : outcome.result.calls) {
    text += call.name + "(" + call.arguments + ")";
  }
  return text + "|" + std::string(outcome.result.finish_reason());
}

OutputOptions thinking() {
  OutputOptions options;
  options.thinking = true;
  return options;
}

OutputOptions with_stop(std::vector<std::string> stop) {
  OutputOptions options;
  options.stop = std::move(stop);
  return options;
}

// ---- The recorded vectors

void expect_as_recorded(const OutputVector& vector, const Cut& cut) {
  const Outcome outcome = parse(vector.pieces, vector.options, vector.cause, cut);
  EXPECT_EQ(outcome.result.content, vector.want.content);
  EXPECT_EQ(outcome.result.reasoning, vector.want.reasoning);
  EXPECT_EQ(outcome.result.calls, vector.want.calls);
  EXPECT_EQ(outcome.result.finish_reason(), vector.finish);
  EXPECT_EQ(outcome.stream.content, vector.want.content);
  EXPECT_EQ(outcome.stream.reasoning, vector.want.reasoning);
  EXPECT_EQ(outcome.stream.complete, vector.want.calls);
  EXPECT_TRUE(outcome.stream.in_order);
}

TEST(OutputVectors, WholeTexts) {
  const std::vector<OutputVector> vectors = test::recorded_vectors();
  EXPECT_EQ(vectors.size(), 33U);
  for (const OutputVector& vector : vectors) {
    SCOPED_TRACE(vector.name);
    expect_as_recorded(vector, [](size_t) { return false; });
  }
}

TEST(OutputVectors, SingleCharacters) {
  for (const OutputVector& vector : test::recorded_vectors()) {
    SCOPED_TRACE(vector.name);
    expect_as_recorded(vector, [](size_t) { return true; });
  }
}

TEST(OutputVectors, EveryPairOfCuts) {
  for (const OutputVector& vector : test::recorded_vectors()) {
    SCOPED_TRACE(vector.name);
    size_t length = 0;
    for (const OutputPiece& piece : vector.pieces) length += piece.text.size();
    for (size_t i = 0; i < length; ++i) {
      for (size_t j = i; j < length; ++j) {
        expect_as_recorded(vector, [=](size_t offset) { return offset == i || offset == j; });
      }
    }
  }
}

// ---- The start

TEST(OutputParser, TextOfEventsAloneIsTheSame) {
  for (const char* shown :
       {"Hello.  ", "  \n", "<|channel>thought\nNeed it.\n<channel|>  Well.\n",
        "<|channel>thought\na<channel|>\n<|channel>thought\nb<channel|> x <|turn>"}) {
    const auto pieces = test::output_pieces(shown);
    const auto no_cut = [](size_t) { return false; };
    const Outcome kept = parse(pieces, {}, FinishCause::kLength, no_cut);
    const Outcome passed =
        parse(pieces, {.text = OutputText::kEventsOnly}, FinishCause::kLength, no_cut);
    EXPECT_EQ(passed.stream.content, kept.result.content) << shown;
    EXPECT_EQ(passed.stream.reasoning, kept.result.reasoning) << shown;
    EXPECT_EQ(passed.result.content, "");
    EXPECT_EQ(passed.result.reasoning, "");
  }
}

TEST(OutputParser, TurnOpenerAtTheVeryStart) {
  EXPECT_EQ(summary("<|turn>model\nHi<turn|>"), "Hi|||stop");
  EXPECT_EQ(summary("<|turn>model\nthought\nA<channel|>Hi<turn|>", thinking()), "Hi|A||stop");
  EXPECT_EQ(summary("<|turn>model\n<|channel>thought\nA<channel|>B<turn|>"), "B|A||stop");
  OutputOptions open;
  open.open_thought = true;
  EXPECT_EQ(summary("<|turn>model\nA<channel|>B<turn|>", open), "B|A||stop");
}

TEST(OutputParser, OtherTurnOpenersEndTheAnswer) {
  for (const std::string_view shown : {"A<|turn>model\nB<turn|>", "A<|turn>", "<|turn>modem\nA",
                                       "<|turn><|turn>", "<|turn>model\n<|turn>model\n"}) {
    SCOPED_TRACE(shown);
    const Outcome outcome = parse(shown);
    EXPECT_EQ(outcome.result.end_token, control::kTurnOpen);
    EXPECT_EQ(outcome.result.finish_reason(), "stop");
    EXPECT_EQ(outcome.result.content, shown[0] == 'A' ? "A" : "");
  }
  EXPECT_EQ(summary("<|tool_call>f{a:1<|turn>x"), "||f({\"a\":1})|tool_calls");
}

TEST(OutputParser, ThoughtWithoutOpener) {
  EXPECT_EQ(summary("thought\nA<channel|>B<turn|>"), "thought\nAB|||stop");
  EXPECT_EQ(summary("thought<turn|>", thinking()), "thought|||stop");
  EXPECT_EQ(summary("thought", thinking()), "thought|||length");
  EXPECT_EQ(summary("thou<channel|>ght\nA<turn|>", thinking()), "thought\nA|||stop");
  EXPECT_EQ(summary(" thought\nA<turn|>", thinking()), " thought\nA|||stop");
  OutputOptions open = thinking();
  open.open_thought = true;
  EXPECT_EQ(summary("thought\nA<channel|>B<turn|>", open), "B|thought\nA||stop");
}

// ---- Content and thoughts

TEST(OutputParser, TextThatLooksLikeControlTokensIsLeftAlone) {
  OutputParser parser({});
  OutputParser::Events events;
  parser.push_text("a<|tool_call>call:f{}<tool_call|><turn|>b", events);
  parser.finish(FinishCause::kLength, events);
  EXPECT_EQ(parser.result().content, "a<|tool_call>call:f{}<tool_call|><turn|>b");
}

TEST(OutputParser, BlanksOfContent) {
  EXPECT_EQ(summary(" A \n<turn|>"), " A \n|||stop");
  EXPECT_EQ(summary(" \n<turn|>"), " \n|||stop");
  EXPECT_EQ(summary(" A \xE3\x80\x80\n<|channel>thought\nT<channel|> \n B \n<turn|>"),
            " AB \n|T||stop");
  EXPECT_EQ(summary(" \n<|tool_call>f{}<tool_call|> \n<turn|>"), "||f({})|tool_calls");
  EXPECT_EQ(summary("<|channel>thought\nT<channel|>\n\n<turn|>"), "|T||stop");
  EXPECT_EQ(summary("<|channel>thought\nT<channel|><|tool_call> <tool_call|><turn|>"), "|T||stop");
}

TEST(OutputParser, BlanksAreHeldBackInAStream) {
  OutputParser parser({});
  OutputParser::Events events;
  parser.push_text("A \n", events);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].text, "A");
  parser.push_text(" B", events);
  EXPECT_EQ(events[0].text, "A \n B");
}

TEST(OutputParser, StrayControlTokensInContent) {
  EXPECT_EQ(summary("a<|\"|>b<tool_call|>c<channel|>d<|image|>e<bos>f<turn|>"), "a\"bcdef|||stop");
}

TEST(OutputParser, ThoughtLineFeedsAndNames) {
  EXPECT_EQ(summary("<|channel>thought\n\nA\n\n<channel|><turn|>"), "|\nA\n||stop");
  EXPECT_EQ(summary("<|channel>thought\nA\n"), "|A||length");
  EXPECT_EQ(summary("<|channel>thought\nA\n<|tool_call>f{}<tool_call|><eos>"),
            "|A|f({})|tool_calls");
  EXPECT_EQ(
      summary("<|channel>thought\nA<channel|>x<|channel>thought\n<channel|><|channel>thought\n"
              "B<channel|>y<turn|>"),
      "xy|A\nB||stop");
  EXPECT_EQ(summary("<|channel> plan \nA<channel|>B<turn|>"), "B|plan\nA||stop");
  EXPECT_EQ(summary("<|channel>plan\n<channel|>B<turn|>"), "B|plan||stop");
  EXPECT_EQ(summary("<|channel>\nA<channel|>B<turn|>"), "B|A||stop");
  EXPECT_EQ(summary("<|channel>x<|channel>thought\nA<|channel>B<|\"|><turn|>"), "|AB||stop");
  EXPECT_EQ(summary("<|channel>thought"), "|||length");
  EXPECT_EQ(summary("A <|channel>x<|tool_call>f{}<turn|>"), "A||f({})|tool_calls");
}

// ---- Calls

TEST(OutputParser, Heads) {
  OutputOptions options;
  options.tools = {{"f", {}}};
  EXPECT_EQ(summary("<|tool_call> call: f <tool_call|><turn|>", options), "||f({})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>:f<turn|>", options), "||f({})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>f", options), "|||length");
  EXPECT_EQ(summary("A <|tool_call>call:g<tool_call|> B<turn|>", options), "Acall:g B|||stop");
  EXPECT_EQ(summary("<|tool_call>g<turn|>", options), "g|||stop");
  EXPECT_EQ(summary("<|tool_call>g<|tool_call>call<|image|>:f(a:1)<turn|>", options),
            "||f({\"a\":1})|tool_calls");
}

TEST(OutputParser, EndsOfCalls) {
  EXPECT_EQ(summary("<|tool_call>f{a:1}}])\n<tool_call|> x <turn|>"),
            "x ||f({\"a\":1})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>f{a:1} x<turn|>"), "x||f({\"a\":1})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>f{a:1}<|\"|>x<turn|>"), "\"x||f({\"a\":1})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>f{a:[1<|tool_call>g{b:2}<turn|>"),
            "||f({\"a\":[1]})g({\"b\":2})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>f{a:1<|channel>2<turn|>"), "||f({\"a\":12})|tool_calls");
  EXPECT_EQ(summary("<|tool_call>f{}<|channel>thought\nT<channel|>x<turn|>"),
            "x|T|f({})|tool_calls");
  // The held '"' turns out bare, so that the call had ended before the text behind it.
  EXPECT_EQ(summary("<|tool_call>f{a:\"x} y<tool_call|> z<turn|>"),
            "y z||f({\"a\":\"\\\"x\"})|tool_calls");
}

TEST(OutputParser, TheCapLeavesACallUnfinishedInTheStream) {
  const Outcome outcome = parse("<|tool_call>f{a:1}<tool_call|><|tool_call>g{b:<|\"|>xy");
  EXPECT_EQ(outcome.result.calls, (std::vector<OutputCall>{{"f", "{\"a\":1}"}}));
  EXPECT_EQ(outcome.result.finish_reason(), "length");
  EXPECT_EQ(outcome.stream.calls.back(), (OutputCall{"g", "{\"b\":\"xy"}));
  EXPECT_EQ(outcome.stream.complete.size(), 1U);
}

TEST(OutputParser, NothingFollowsTheEnd) {
  EXPECT_EQ(summary("A<turn|>B<|tool_call>f{}<tool_call|>"), "A|||stop");
  EXPECT_EQ(summary("A<eos>B"), "A|||stop");
  EXPECT_EQ(parse("A<eos>").result.end_token, control::kEos);
  EXPECT_EQ(summary("A", {}, FinishCause::kAbort), "A|||abort");
  EXPECT_EQ(summary("<|tool_call>f{a:1", {}, FinishCause::kStopToken), "||f({\"a\":1})|stop");
}

// ---- Stop strings

TEST(OutputParser, StopStringsInContentOnly) {
  const OutputOptions options = with_stop({"END", "\n\n"});
  EXPECT_EQ(summary("<|channel>thought\nEND\n\nx<channel|>\n\nA EN<|image|>D B<turn|>", options),
            "A |END\n\nx||stop");
  EXPECT_EQ(summary("<|tool_call>f{a:END}<tool_call|>EN<|tool_call>g{}<turn|>", options),
            "EN||f({\"a\":\"END\"})g({})|tool_calls");
  EXPECT_EQ(parse("A\n\nB", options).result.stop_string, "\n\n");
  EXPECT_EQ(summary("A\n\nB", options), "A|||stop");
  EXPECT_EQ(summary("A EN", options), "A EN|||length");
  EXPECT_EQ(summary("<|tool_call>f END<tool_call|>x<turn|>", options), "f |||stop");
  // The end token settles a match that a longer stop string had put off.
  const Outcome late = parse("xabc<turn|>", with_stop({"bc", "abcd"}));
  EXPECT_EQ(late.result.content, "xa");
  EXPECT_EQ(late.result.stop_string, "bc");
  EXPECT_FALSE(late.result.end_token);
}

TEST(OutputParser, StopStringMayBeKept) {
  OutputOptions options = with_stop({"END\n"});
  options.stop_text = StopText::kKeep;
  EXPECT_EQ(summary("A END\nB", options), "A END\n|||stop");
}

}  // namespace
}  // namespace facet
