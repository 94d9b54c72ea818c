#include "cli/message_lines.h"

#include <gtest/gtest.h>
#include <vector>

namespace facet::cli {
namespace {

/// The text of lines of which only the last completes the message.
std::string text_of(const std::vector<std::string>& lines, bool is_command = false) {
  MessageLines message;
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(message.add(lines[i]), i + 1 == lines.size()) << lines[i];
  }
  EXPECT_EQ(message.is_command(), is_command);
  return message.text();
}

TEST(MessageLines, OneLineIsAMessage) {
  EXPECT_EQ(text_of({"Hello, \"you\"!"}), "Hello, \"you\"!");
  EXPECT_EQ(text_of({""}), "");
  EXPECT_EQ(text_of({"two\nlines"}), "two\nlines");
}

TEST(MessageLines, SeveralLinesBetweenMarksThatStandAlone) {
  EXPECT_EQ(text_of({"\"\"\"", "a", "", " b", "\"\"\""}), "a\n\n b");
  EXPECT_EQ(text_of({" \"\"\" ", "a", "\"\"\"\t"}), "a");
  EXPECT_EQ(text_of({"\"\"\"", "", "a", "", "\"\"\""}), "\na\n");
  EXPECT_EQ(text_of({"\"\"\"", "\"\"\""}), "");
}

TEST(MessageLines, MarksMayStandAnywhereOnALine) {
  EXPECT_EQ(text_of({"\"\"\"a", "b\"\"\""}), "a\nb");
  EXPECT_EQ(text_of({"Read this: \"\"\"", "a", "b", "\"\"\" and tell me more."}),
            "Read this: \na\nb\n and tell me more.");
  EXPECT_EQ(text_of({"\"\"\"all on one line\"\"\""}), "all on one line");
  EXPECT_EQ(text_of({"x \"\"\"a", "b\"\"\" y \"\"\"c", "d\"\"\""}), "x a\nb y c\nd");
}

TEST(MessageLines, OnlyASlashOutsideOfMarksIsACommand) {
  EXPECT_EQ(text_of({"/help"}, true), "/help");
  EXPECT_EQ(text_of({"\"\"\"/etc/passwd", "is a file\"\"\""}), "/etc/passwd\nis a file");
  EXPECT_EQ(text_of({"\"\"\"", "/help", "\"\"\""}), "/help");
  EXPECT_EQ(text_of({"/system \"\"\"Be brief.", "Be kind.\"\"\""}, true),
            "/system Be brief.\nBe kind.");
}

}  // namespace
}  // namespace facet::cli
