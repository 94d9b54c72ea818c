#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <memory>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {
namespace {

constexpr int64_t kMostTextBytes = int64_t{1} << 32;

struct Options {
  ModelOptions model;
  std::string text;
  int32_t window = 512;
  bool json = false;
};

/// -ln p(id) under one row of logits.
double surprise(std::span<const float> logits, int32_t id) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  if (!std::isfinite(sum))
    throw Error(ErrorCode::kInternal, "the model's logits are not finite numbers");
  return std::log(sum) - static_cast<double>(logits[static_cast<size_t>(id)] - largest);
}

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

/// Nats over one window: <bos>, then `ids`, each of which is scored.
double score_window(Session& session, int32_t bos, std::span<const int32_t> ids) {
  std::vector<int32_t> input = {bos};
  input.insert(input.end(), ids.begin(), ids.end() - 1);  // the last id is scored, never read
  KvCache& cache = session.stepper().cache();
  const CacheSlot slot = cache.open();
  double nats = 0;
  const auto chunk = static_cast<size_t>(session.max_rows());
  for (size_t at = 0; at < input.size(); at += chunk) {
    const auto part =
        std::span<const int32_t>(input).subspan(at, std::min(chunk, input.size() - at));
    if (!cache.reserve(slot, static_cast<int32_t>(part.size()))) {
      throw Error(ErrorCode::kInternal, "the KV cache is smaller than planned");
    }
    const SequenceStep step = {slot, part, LogitRows::kAll};
    const TensorView logits = session.stepper().run({&step, 1});
    for (size_t row = 0; row < part.size(); ++row) {
      nats += surprise(logits.slice_rows(static_cast<int64_t>(row), 1).as<float>(), ids[at + row]);
    }
  }
  cache.close(slot);
  return nats;
}

void perplexity(Options options) {
  const std::string text = read_file(options.text, kMostTextBytes);
  options.model.prefill_chunk = std::min(options.model.prefill_chunk, options.window);
  const Tokenizer tokenizer = Tokenizer::load(find_model(options.model.model) + "/tokenizer.json");
  Session session(options.model, {.max_logit_rows = options.model.prefill_chunk,
                                  .positions = options.window,
                                  .memory_flags = "--window"});
  tokenizer.check_fits(session.config().vocab_size);
  if (options.window > session.max_positions()) {
    throw Error(ErrorCode::kUsage, fmt::format("--window {}: the model's context is {}",
                                               options.window, session.max_positions()));
  }
  std::vector<int32_t> ids;
  for (const TokenId id : tokenizer.encode(text)) ids.push_back(to_index(id));
  if (ids.empty()) throw Error(ErrorCode::kBadInput, "the text is empty", options.text);

  const int32_t bos = bos_id(session.config());
  const auto each = static_cast<size_t>(options.window - 1);
  double nats = 0;
  Progress progress("perplexity", static_cast<int64_t>(ids.size()), Progress::Unit::kTokens);
  for (size_t at = 0; at < ids.size(); at += each) {
    const auto window = std::span<const int32_t>(ids).subspan(at, std::min(each, ids.size() - at));
    nats += score_window(session, bos, window);
    progress.update(static_cast<int64_t>(at + window.size()));
  }
  progress.finish();
  const double per_token = nats / static_cast<double>(ids.size());
  const double per_character = nats / std::log(2.0) / static_cast<double>(characters(text));
  if (options.json) {
    fmt::print(
        "{{\"nats_per_token\":{:.6f},\"bits_per_character\":{:.6f},\"tokens\":{},\"characters\":{},"
        "\"window\":{}}}\n",
        per_token, per_character, ids.size(), characters(text), options.window);
  } else {
    fmt::print(
        "{:.4f} nats per token, {:.4f} bits per character, {} tokens, {} characters, windows of "
        "{}\n",
        per_token, per_character, ids.size(), characters(text), options.window);
  }
}

}  // namespace

void add_perplexity(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = app.add_subcommand("perplexity", "How well the model predicts a text");
  add_model_options(*command, options->model);
  command->add_option("--text", options->text, "A UTF-8 text file")
      ->required()
      ->check(CLI::ExistingFile);
  command
      ->add_option("--window", options->window,
                   "Tokens per window: <bos> and window-1 of the text, each scored")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options, &chosen] { chosen = [options] { perplexity(*options); }; });
}

}  // namespace facet::cli
