// CallGrammar and CallGuide: what may follow what, and that an answer drawn at random under a guide
// always reads as the calls that were declared.

#include "chat/call_grammar.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <gtest/gtest.h>
#include <random>

#include "chat/call_guide.h"
#include "chat/declared_tools.h"
#include "chat/output_reader.h"
#include "chat/output_test_parts.h"
#include "tests/support.h"

namespace facet {
namespace {

const char* const kTools = R"([
 {"type":"function","function":{"name":"get_weather","strict":true,"parameters":{"type":"object",
   "properties":{"city":{"type":"string"},"days":{"type":"integer"},"metric":{"type":"boolean"},
     "unit":{"enum":["C","F",3,null]},"tags":{"type":"array"},"odd name":{"type":"string"}},
   "required":["city","unit","odd name"]}}},
 {"type":"function","function":{"name":"get","parameters":{"type":"object",
   "properties":{"x":{"type":"string"}}}}},
 {"type":"function","function":{"name":"ping","strict":true,
   "parameters":{"type":"object","properties":{}}}}])";

std::vector<CallTool> tools() { return call_tools(parse_value(kTools), ArgumentRule::kFree); }

/// Reads a call in which <|"|> is shown as its text. -1: all taken; else the first piece that is
/// refused, as its offset.
int64_t refused_at(std::string_view call) {
  const std::vector<CallTool> all = tools();
  CallGrammar grammar(all);
  constexpr std::string_view kDelimiter = "<|\"|>";
  for (size_t at = 0; at < call.size();) {
    const bool delimiter = call.substr(at, kDelimiter.size()) == kDelimiter;
    const bool taken = delimiter ? grammar.take_delimiter() : grammar.take(call.substr(at, 1));
    if (!taken) return static_cast<int64_t>(at);
    at += delimiter ? kDelimiter.size() : 1;
  }
  return grammar.expects() == CallGrammar::Expects::kEnd ? -1 : static_cast<int64_t>(call.size());
}

TEST(CallGrammar, TakesWhatIsDeclared) {
  for (const char* call : {
           "call:ping{}",
           "call:get{}",
           "call:get{x:<|\"|>any } text: <|\"|>,y:[1,-2.5e3,true,null,{a:{}},[]]}",
           "call:get_weather{city:<|\"|><|\"|>,unit:<|\"|>F<|\"|>}",
           "call:get_weather{unit:null,days:-3,metric:false,tags:[{a:1},<|\"|>b<|\"|>],"
           "city:<|\"|>Oslo<|\"|>}",
           "call:get_weather{unit:3,city:<|\"|>x<|\"|>}",
       }) {
    EXPECT_EQ(refused_at(call), -1) << call;
  }
}

TEST(CallGrammar, RefusesAtTheFirstByteThatCannotBeCompleted) {
  const std::vector<std::pair<std::string, std::string>> kFaults = {
      {"", "x"},                                     // not "call:"
      {"call:", "x"},                                // no such name
      {"call:get", "("},                             //
      {"call:get_weather", "}"},                     //
      {"call:get{", ","},                            //
      {"call:get{a:1,", "}"},                        // a pair must follow
      {"call:get{a:1,a", ":"},                       // a key twice
      {"call:get{a", " "},                           // no blanks
      {"call:get{a:", " "},                          //
      {"call:get{a:[1", "}"},                        //
      {"call:get{a:0", "1"},                         // not a JSON number
      {"call:get{a:1.", ","},                        //
      {"call:get{a:1e99", "9"},                      // no reader takes all of these
      {"call:get{a:12345678901234567890", "1"},      //
      {"call:get{a:tr", "x"},                        //
      {"call:ping{", "a"},                           // has no parameters
      {"call:get_weather{", "}"},                    // required ones are missing
      {"call:get_weather{ci", "x"},                  // not declared
      {"call:get_weather{city:", "1"},               // not a string
      {"call:get_weather{days:1", "."},              // not an integer
      {"call:get_weather{days:", "<|\"|>"},          //
      {"call:get_weather{metric:", "n"},             // not a boolean
      {"call:get_weather{unit:", "t"},               // not a choice
      {"call:get_weather{unit:<|\"|>", "<|\"|>"},    //
      {"call:get_weather{unit:<|\"|>C", "F"},        //
      {"call:get_weather{city:<|\"|>x<|\"|>", "}"},  // unit is missing
      {"call:ping{}", "}"},                          // over
  };
  for (const auto& [good, bad] : kFaults) {
    EXPECT_EQ(refused_at(good + bad), static_cast<int64_t>(good.size())) << good << " | " << bad;
  }
}

TEST(CallGrammar, CommaOnlyWhileAKeyIsLeft) {
  EXPECT_EQ(refused_at("call:get_weather{city:<|\"|>a<|\"|>,unit:3,days:1,metric:true,tags:[]}"),
            -1);
  const std::string all = "call:get_weather{city:<|\"|>a<|\"|>,unit:3,days:1,metric:true,tags:[]";
  EXPECT_EQ(refused_at(all + ","), static_cast<int64_t>(all.size()));
}

/// An answer drawn evenly from what the guide allows, up to `most` tokens.
std::vector<TokenId> draw(const TokenTable& table,
                          CallGuide& guide,
                          std::mt19937& random,
                          size_t most) {
  std::vector<TokenId> ids;
  while (ids.size() < most) {
    const CallGuide::Rule rule = guide.next();
    TokenId id = rule.forced;
    if (rule.kind == CallGuide::Rule::Kind::kOnly) {
      std::vector<TokenId> allowed;
      for (int32_t i = 0; i < table.size(); ++i) {
        if ((rule.only[static_cast<size_t>(i) / 64] >> (i % 64) & 1) != 0)
          allowed.push_back(TokenId{i});
      }
      if (allowed.empty()) {
        ADD_FAILURE() << "a dead end behind " << ids.size() << " tokens";
        return ids;
      }
      id = allowed[random() % allowed.size()];
      // What closes something is rare among all tokens: without help nothing would ever end.
      for (const TokenId closer : {control::kStringDelimiter, control::kToolResponseOpen}) {
        const bool offered = std::find(allowed.begin(), allowed.end(), closer) != allowed.end();
        if (offered && random() % 3 == 0) id = closer;
      }
    } else if (rule.kind == CallGuide::Rule::Kind::kAny) {
      if (ids.empty() || ids.back() != control::kToolResponseOpen) ADD_FAILURE() << "unguided";
      return ids;
    }
    guide.accept(id);
    ids.push_back(id);
  }
  return ids;
}

TEST(CallGuide, RandomAnswersAreCallsAsDeclared) {
  const Tokenizer tokenizer = Tokenizer::load(test::source_dir() + "/models/fable/tokenizer.json");
  const TokenTable table(tokenizer);
  std::mt19937 random(7);
  int32_t whole = 0;
  for (int32_t round = 0; round < 60; ++round) {
    CallGuideOptions options;
    options.tools = tools();
    options.required = true;
    CallGuide guide(table, options);
    const std::vector<TokenId> ids = draw(table, guide, random, 400);
    ASSERT_EQ(ids.front(), control::kToolCallOpen);
    if (ids.back() != control::kToolResponseOpen) continue;
    ++whole;
    OutputOptions output;
    output.tools = declared_tools(parse_value(kTools));
    OutputReader reader(tokenizer, output);
    OutputParser::Events events;
    for (const TokenId id : ids) reader.push(id, events);
    ASSERT_TRUE(reader.ended());
    EXPECT_EQ(reader.result().content, "");
    ASSERT_FALSE(reader.result().calls.empty());
    for (const OutputCall& call : reader.result().calls) {
      const boost::json::object arguments = boost::json::parse(call.arguments).as_object();
      if (call.name == "ping") EXPECT_TRUE(arguments.empty());
      if (call.name != "get_weather") continue;
      EXPECT_TRUE(arguments.at("city").is_string());
      EXPECT_TRUE(arguments.contains("unit"));
      if (const auto* days = arguments.if_contains("days")) EXPECT_TRUE(days->is_number());
      if (const auto* metric = arguments.if_contains("metric")) EXPECT_TRUE(metric->is_bool());
    }
  }
  EXPECT_GT(whole, 20);
}

TEST(CallGuide, AThoughtEndsWhenItsBudgetIsSpent) {
  const Tokenizer tokenizer = Tokenizer::load(test::source_dir() + "/models/fable/tokenizer.json");
  const TokenTable table(tokenizer);
  CallGuideOptions options;
  options.thinking = true;
  options.thought_budget = 2;
  CallGuide guide(table, options);
  using Kind = CallGuide::Rule::Kind;
  EXPECT_EQ(guide.next().kind, Kind::kAny);
  guide.accept(control::kChannelOpen);
  for (const TokenId id : tokenizer.encode("thought\n")) {
    EXPECT_EQ(guide.next().kind, Kind::kAny);
    guide.accept(id);
  }
  const TokenId word = tokenizer.encode("fox").front();
  for (int32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(guide.next().kind, Kind::kAny);
    guide.accept(word);
  }
  EXPECT_EQ(guide.next().forced, table.line_feed());
  guide.accept(table.line_feed());
  EXPECT_EQ(guide.next().forced, control::kChannelClose);
  guide.accept(control::kChannelClose);
  EXPECT_EQ(guide.next().kind, Kind::kAny);
}

TEST(CallGuide, ARequiredCallComesBehindAThoughtAndEndsIfSingle) {
  const Tokenizer tokenizer = Tokenizer::load(test::source_dir() + "/models/fable/tokenizer.json");
  const TokenTable table(tokenizer);
  CallGuideOptions options;
  options.tools = tools();
  options.required = true;
  options.single_call = true;
  options.open_thought = true;
  CallGuide guide(table, options);
  const CallGuide::Rule thought = guide.next();
  ASSERT_EQ(thought.kind, CallGuide::Rule::Kind::kOnly);
  const auto allowed = [&](TokenId id) {
    return (thought.only[static_cast<size_t>(to_index(id)) / 64] >> (to_index(id) % 64) & 1) != 0;
  };
  EXPECT_TRUE(allowed(control::kChannelClose));
  EXPECT_FALSE(allowed(control::kTurnClose));
  guide.accept(control::kChannelClose);
  EXPECT_EQ(guide.next().forced, control::kToolCallOpen);
  guide.accept(control::kToolCallOpen);
  for (const TokenId id : tokenizer.encode("call:ping{}")) guide.accept(id);
  EXPECT_EQ(guide.next().forced, control::kToolCallClose);
  guide.accept(control::kToolCallClose);
  EXPECT_EQ(guide.next().forced, control::kToolResponseOpen);
}

}  // namespace
}  // namespace facet
