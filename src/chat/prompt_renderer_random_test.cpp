#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "chat/prompt_renderer.h"

namespace facet {
namespace {

/// Random JSON out of the words that the renderer looks for, and much that it does not expect.
class Generator {
 public:
  explicit Generator(uint32_t seed) : random_(seed) {}

  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
  bool chance(int percent) { return below(100) < percent; }

  std::string word() {
    static const char* const kWords[] = {"role",
                                         "content",
                                         "tool_calls",
                                         "function",
                                         "name",
                                         "arguments",
                                         "type",
                                         "properties",
                                         "required",
                                         "items",
                                         "description",
                                         "enum",
                                         "nullable",
                                         "object",
                                         "array",
                                         "string",
                                         "text",
                                         "user",
                                         "assistant",
                                         "tool",
                                         "system",
                                         "image",
                                         "<turn|>",
                                         "<|channel>",
                                         "<channel|>",
                                         "",
                                         "Σ",
                                         "ß",
                                         " ",
                                         "\\u0000",
                                         "id",
                                         "tool_call_id",
                                         "{\\\"a\\\":1}"};
    return "\"" + std::string(kWords[below(std::size(kWords))]) + "\"";
  }
  std::string value(int depth) {
    switch (below(depth > 0 ? 9 : 7)) {
      case 0:
        return "null";
      case 1:
        return chance(50) ? "true" : "false";
      case 2:
        return chance(50) ? "1e-7" : "-12345678901234567890123";
      case 7:
        return object(depth);
      case 8:
        return array(depth);
      default:
        return word();
    }
  }
  std::string object(int depth) {
    std::string out = "{";
    for (int i = below(6); i > 0; --i) out += word() + ":" + value(depth - 1) + (i > 1 ? "," : "");
    return out + "}";
  }
  std::string array(int depth) {
    std::string out = "[";
    for (int i = below(5); i > 0; --i) out += value(depth - 1) + (i > 1 ? "," : "");
    return out + "]";
  }
  /// `usual`, or now and then anything at all.
  std::string mostly(const std::string& usual) { return chance(3) ? value(2) : usual; }

  std::string message(const std::string& role) {
    std::string out = "{\"role\":" + mostly("\"" + role + "\"");
    if (chance(80)) out += ",\"content\":" + content();
    if (chance(20)) out += ",\"reasoning\":" + mostly(word());
    if (role == "assistant" && chance(60)) out += ",\"tool_calls\":" + mostly("[" + call() + "]");
    if (chance(30)) out += ",\"tool_call_id\":" + mostly(word());
    return out + "}";
  }
  std::string content() {
    if (chance(60)) return word();
    std::string out = "[";
    for (int i = below(4); i > 0; --i) {
      out += mostly(chance(50) ? "{\"type\":\"text\",\"text\":" + word() + "}"
                               : "{\"type\":\"image\"}");
      if (i > 1) out += ",";
    }
    return out + "]";
  }
  std::string call() {
    return "{\"id\":" + mostly(word()) + ",\"function\":{\"name\":" + mostly(word()) +
           ",\"arguments\":" + mostly(object(4)) + "}}";
  }
  std::string messages() {
    static const char* const kRoles[] = {"user", "assistant", "assistant", "tool", "system"};
    std::string out = "[";
    for (int i = below(7); i > 0; --i)
      out += mostly(message(kRoles[below(std::size(kRoles))])) + (i > 1 ? "," : "");
    return out + "]";
  }
  std::string tools() {
    std::string out = "[";
    for (int i = below(3); i > 0; --i) {
      out += mostly("{\"function\":{\"name\":" + word() + ",\"parameters\":" + mostly(schema(4)) +
                    "}}");
      if (i > 1) out += ",";
    }
    return out + "]";
  }
  std::string schema(int depth) {
    static const char* const kTypes[] = {"object", "array", "string", "integer"};
    std::string out = "{\"type\":" + mostly("\"" + std::string(kTypes[below(4)]) + "\"");
    if (depth > 0 && chance(60))
      out += ",\"properties\":{" + word() + ":" + schema(depth - 1) + "}";
    if (depth > 0 && chance(40)) out += ",\"items\":" + schema(depth - 1);
    if (chance(30)) out += ",\"required\":" + mostly("[" + word() + "]");
    if (chance(30)) out += "," + word() + ":" + value(3);
    return out + "}";
  }

 private:
  std::mt19937 random_;
};

TEST(PromptRendererRandom, AnyJsonIsRenderedOrRefused) {
  int rendered = 0;
  int refused = 0;
  for (uint32_t seed = 0; seed < 20000; ++seed) {
    Generator generator(seed);
    const Value messages = parse_value(generator.messages());
    const Value tools = parse_value(generator.tools());
    RenderOptions options;
    options.enable_thinking = generator.chance(50);
    options.preserve_thinking = generator.chance(50);
    options.continue_final_message = generator.chance(20);
    options.template_exact = generator.chance(50);
    if (generator.chance(30)) options.generation = TemplateGeneration::kApril2026;
    try {
      const std::vector<PromptItem> items = render(messages, &tools, options);
      ASSERT_FALSE(items.empty());
      for (size_t i = 0; i < items.size(); ++i) {
        ASSERT_EQ(items[i].control.has_value(), items[i].text.empty()) << "seed " << seed;
        ASSERT_FALSE(i > 0 && !items[i].control && !items[i - 1].control) << "seed " << seed;
      }
      ++rendered;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kBadInput) << "seed " << seed;
      ASSERT_EQ(error.what(), std::string(error.what()).substr(0, 2000)) << "seed " << seed;
      ++refused;
    }
  }
  // Both ways are walked often enough to mean something.
  EXPECT_GT(rendered, 2000);
  EXPECT_GT(refused, 2000);
}

TEST(PromptRendererRandom, DamagedJsonIsParsedOrRefused) {
  int refused = 0;
  for (uint32_t seed = 0; seed < 20000; ++seed) {
    Generator generator(seed);
    std::string json = generator.messages();
    for (int i = generator.below(4); i > 0; --i) {
      const auto at = static_cast<size_t>(generator.below(static_cast<int>(json.size())));
      json[at] = static_cast<char>(generator.below(256));
    }
    try {
      render(parse_value(json), nullptr, {});
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kBadInput) << "seed " << seed;
      ++refused;
    }
  }
  EXPECT_GT(refused, 5000);
}

}  // namespace
}  // namespace facet
