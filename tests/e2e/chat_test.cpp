// `run` at a terminal: keys, commands, and what a second turn costs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <regex>

#include "tests/e2e/process.h"
#include "tests/e2e/terminal.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::Terminal;
using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kRun = {"run", "fable",        "--seed", "7",        "--temperature",
                                       "0",   "--max-tokens", "12",     "--verbose"};

struct Stats {
  int prompt = -1;
  int cached = -1;
};

/// The line of --verbose that follows an answer.
Stats read_stats(Terminal& terminal) {
  const std::string text = terminal.read_until("no drafts");
  std::smatch found;
  if (!std::regex_search(text, found, std::regex("prompt (\\d+) tokens, (\\d+) of them cached"))) {
    ADD_FAILURE() << text;
    return {};
  }
  terminal.read_until("tok/s");
  return {std::stoi(found[1]), std::stoi(found[2])};
}

TEST(Chat, ASecondTurnReadsOnlyWhatIsNew) {
  Terminal terminal(kRun);
  terminal.read_until(">>> ");
  terminal.type("Tell me a story about a fox who lived in a wood.\r");
  const Stats first = read_stats(terminal);
  EXPECT_EQ(first.cached, 0);
  terminal.type("Go on.\r");
  const Stats second = read_stats(terminal);
  EXPECT_GT(second.cached, first.prompt / 2);
  EXPECT_LE(second.cached, first.prompt);
  EXPECT_GT(second.prompt, first.prompt);
  terminal.type("/clear\r");
  terminal.type("Go on.\r");
  EXPECT_LT(read_stats(terminal).cached, 10) << "the system turn at most is common";
  terminal.type("/bye\r");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST(Chat, LinesBetweenMarksAreTextEvenIfTheyLookLikeACommand) {
  Terminal terminal(kRun);
  terminal.read_until(">>> ");
  terminal.type("\"\"\"/help\r");
  terminal.read_until("... ");
  terminal.type("is a word\"\"\"\r");
  EXPECT_GT(read_stats(terminal).prompt, 0);
  terminal.type("/help\r");
  EXPECT_THAT(terminal.read_until("/bye"), HasSubstr("/system TEXT"));
  terminal.type("/system \"\"\"Be brief.\r");
  terminal.read_until("... ");
  terminal.type("Be kind.\"\"\"\r/show\r");
  EXPECT_THAT(terminal.read_until("Be kind."), Not(HasSubstr("no command")));
  terminal.type("/sing\r");
  terminal.read_until("no command '/sing'");
  terminal.type("/set temperature 11\r");
  terminal.read_until("wanted 0 to 10");
  terminal.type("/image cat.png\r");
  terminal.read_until("not supported");
  terminal.read_until(">>> ");
  terminal.type("\x04");  // Ctrl-D
  EXPECT_EQ(terminal.wait(), 0);
}

TEST(Chat, SavesAndLoadsAConversation) {
  const test::TempDir dir;
  Terminal terminal(kRun);
  terminal.read_until(">>> ");
  terminal.type("/system Be brief.\rTell me a story.\r");
  const Stats first = read_stats(terminal);
  terminal.type("/save " + dir.path("chat.json") + "\r/clear\r/load " + dir.path("chat.json") +
                "\rGo on.\r");
  const Stats second = read_stats(terminal);
  EXPECT_GT(second.prompt, first.prompt);
  EXPECT_GT(second.cached, first.prompt / 2) << "the same conversation again";
  terminal.type("/load " + dir.path("none.json") + "\r");
  terminal.read_until("none.json");
  terminal.type("/stats off\r");
  terminal.type("/bye\r");
  EXPECT_EQ(terminal.wait(), 0);
}

/// The slow backend needs minutes for this prompt; Ctrl-C must not wait for it.
TEST(Chat, CtrlCStopsALongPrefill) {
  Terminal terminal({"run", "fable", "--backend", "ref", "--context", "8192"});
  terminal.read_until(">>> ");
  terminal.type("\"\"\"\r");
  for (int line = 0; line < 60; ++line) {
    terminal.read_until("... ");
    terminal.type("Once upon a time there was a fox who lived in a wood, and it was hungry.\r");
  }
  terminal.read_until("... ");
  terminal.type("\"\"\"\r");
  usleep(300'000);  // the answer has begun to be computed
  terminal.type("\x03");
  terminal.read_until("stopped before the answer began");
  terminal.read_until(">>> ");
  terminal.type("/bye\r");
  EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace facet
