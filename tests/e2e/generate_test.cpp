// What `generate` lets be chosen and what ends it (server-api 5.7, 5.8, 12).

#include <algorithm>
#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

#include "tests/checkpoint_editor.h"
#include "tests/e2e/process.h"
#include "tests/support.h"

namespace facet {
namespace {

using test::run_facet;
using testing::Contains;
using testing::Not;

constexpr int kTool = 46;      // <|tool>: never sampled
constexpr int kTurnEnd = 106;  // <turn|>: ends

std::vector<int> numbers(const std::string& text) {
  std::vector<int> ids;
  std::istringstream in(text);
  for (std::string id; std::getline(in, id, ',');) ids.push_back(std::stoi(id));
  return ids;
}

/// A golden whose favourite token, 226, changes places with another: rows of the embedding, which
/// is the head too.
class Swapped {
 public:
  explicit Swapped(int other) {
    const std::string folder = test::data_path("goldens/dense-nvfp4-mlp");
    test::CheckpointEditor editor(folder);
    test::EditableTensor& table = editor.tensor("model.language_model.embed_tokens.weight");
    const auto row = table.bytes.size() / static_cast<size_t>(table.shape[0]);
    for (size_t i = 0; i < row; ++i) {
      std::swap(table.bytes[226 * row + i], table.bytes[static_cast<size_t>(other) * row + i]);
    }
    editor.save(dir_.path("model"));
    const boost::json::value all = boost::json::parse(test::read_text(folder + "/expected.json"));
    for (const boost::json::value& id : all.at("prompt_ids").as_array())
      prompt_ += (prompt_.empty() ? "" : ",") + std::to_string(swap(id.as_int64(), other));
    for (const boost::json::value& id : all.at("greedy_ids").as_array())
      greedy_.push_back(static_cast<int>(swap(id.as_int64(), other)));
  }

  std::vector<int> generate(const std::vector<std::string>& options) const {
    std::vector<std::string> command = {
        "generate", dir_.path("model"), "--ids", prompt_, "--kv-dtype",
        "f32",      "--max-tokens",     "24"};
    command.insert(command.end(), options.begin(), options.end());
    const test::Finished run = run_facet(command);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return numbers(run.out);
  }
  const std::vector<int>& greedy() const { return greedy_; }

 private:
  static int64_t swap(int64_t id, int other) {
    if (id == 226) return other;
    return id == other ? 226 : id;
  }

  test::TempDir dir_;
  std::string prompt_;
  std::vector<int> greedy_;
};

TEST(Generate, ControlTokensThatAreNeverSampledAreMasked) {
  const Swapped model(kTool);
  ASSERT_THAT(model.greedy(), Contains(kTool));
  EXPECT_THAT(model.generate({}), Not(Contains(kTool)));
  EXPECT_EQ(model.generate({}).size(), 24U);
  EXPECT_THAT(model.generate({"--temperature", "2", "--seed", "3"}), Not(Contains(kTool)));
  EXPECT_EQ(model.generate({"--ignore-eos"}), model.greedy()) << "the bare model";
}

TEST(Generate, AnEndTokenIsTheLastIdUnlessItIsIgnored) {
  const Swapped model(kTurnEnd);
  ASSERT_THAT(model.greedy(), Contains(kTurnEnd));
  std::vector<int> until_end = model.greedy();
  until_end.erase(std::find(until_end.begin(), until_end.end(), kTurnEnd) + 1, until_end.end());
  EXPECT_EQ(model.generate({}), until_end);
  EXPECT_EQ(model.generate({"--ignore-eos"}), model.greedy());
}

TEST(Generate, SeedsAreAnyInt64) {
  const Swapped model(kTool);
  EXPECT_EQ(model.generate({"--temperature", "1", "--seed", "-5"}),
            model.generate({"--temperature", "1", "--seed", "-5", "--top-k", "-1"}));
  const test::Finished run = run_facet({"run", "fable", "x", "--seed", "9223372036854775808"});
  EXPECT_EQ(run.exit_code, 64);
}

}  // namespace
}  // namespace facet
