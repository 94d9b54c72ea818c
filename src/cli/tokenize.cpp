#include <CLI/CLI.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/ids.h"
#include "cli/model_text.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {
namespace {

struct Options {
  std::string model;
  bool special = false;
  bool jsonl = false;
};

/// Runs `body(value)` on each line of stdin as JSON, and prints what it returns as JSON.
template <typename Body>
void each_json_line(const Body& body) {
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.empty()) continue;
    boost::json::error_code fault;
    const boost::json::value value = boost::json::parse(line, fault);
    if (fault) {
      throw Error(ErrorCode::kBadInput, fmt::format("no JSON: {}", fault.message()),
                  fmt::format("line {}", number));
    }
    in_place(fmt::format("line {}", number),
             [&] { fmt::print("{}\n", boost::json::serialize(body(value))); });
  }
}

void tokenize(const Options& options) {
  const Tokenizer tokenizer = load_tokenizer(options.model);
  Encoder encoder(tokenizer);
  const ControlTokens control =
      options.special ? ControlTokens::kRecognise : ControlTokens::kIgnore;
  const auto encode = [&](std::string_view text) {
    std::vector<TokenId> ids;
    encoder.encode(text, control, ids);
    return ids;
  };
  if (options.jsonl) {
    each_json_line([&](const boost::json::value& value) -> boost::json::value {
      if (!value.is_string()) throw Error(ErrorCode::kBadInput, "wanted a JSON string");
      boost::json::array ids;
      for (const TokenId id : encode(std::string_view(value.get_string())))
        ids.emplace_back(to_index(id));
      return ids;
    });
    return;
  }
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  std::vector<int32_t> ids;
  for (const TokenId id : encode(text)) ids.push_back(to_index(id));
  fmt::print("{}\n", format_ids(ids));
}

void detokenize(const Options& options) {
  const Tokenizer tokenizer = load_tokenizer(options.model);
  const ControlText control = options.special ? ControlText::kShow : ControlText::kDrop;
  if (options.jsonl) {
    each_json_line([&](const boost::json::value& value) -> boost::json::value {
      std::vector<TokenId> ids;
      if (!value.is_array()) throw Error(ErrorCode::kBadInput, "wanted a JSON array of token ids");
      for (const boost::json::value& id : value.get_array()) {
        if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= tokenizer.size()) {
          throw Error(ErrorCode::kBadInput,
                      fmt::format("found {}, wanted a token id from 0 to {}",
                                  printable(boost::json::serialize(id), 40), tokenizer.size() - 1));
        }
        ids.push_back(TokenId{static_cast<int32_t>(id.get_int64())});
      }
      return boost::json::string(tokenizer.decode(ids, control));
    });
    return;
  }
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  std::vector<TokenId> ids;
  for (const int32_t id : parse_ids(text)) ids.push_back(TokenId{id});
  const std::string decoded = tokenizer.decode(ids, control);
  std::fwrite(decoded.data(), 1, decoded.size(), stdout);
}

CLI::App* add(CLI::App& app,
              const char* name,
              const char* help,
              const std::shared_ptr<Options>& options) {
  CLI::App* command = app.add_subcommand(name, help);
  command
      ->add_option("MODEL", options->model,
                   "A folder with tokenizer.json, or the name of a bundled model")
      ->required();
  return command;
}

}  // namespace

void add_tokenize(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = add(app, "tokenize",
                          "Text from stdin to token ids on one line, separated by commas", options);
  command->add_flag("--special", options->special,
                    "Recognise control tokens such as <bos> in the text");
  command->add_flag("--jsonl", options->jsonl,
                    "One JSON string per line in, one JSON array per line out");
  command->callback([options, &chosen] { chosen = [options] { tokenize(*options); }; });
}

void add_detokenize(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = add(app, "detokenize", "Token ids from stdin to text", options);
  command->add_flag("--special", options->special, "Show control tokens as their text");
  command->add_flag("--jsonl", options->jsonl,
                    "One JSON array per line in, one JSON string per line out");
  command->callback([options, &chosen] { chosen = [options] { detokenize(*options); }; });
}

}  // namespace facet::cli
