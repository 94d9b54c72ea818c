#include <CLI/CLI.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/check_values.h"
#include "cli/commands.h"
#include "cli/manifest.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {
namespace {

struct Options {
  std::string model;
  std::string write_manifest;
  std::string manifest;
  bool values = false;
};

void look_at_values(const std::string& folder, const Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const StoredTensor* tensor : checkpoint.tensors())
    bytes += static_cast<int64_t>(tensor->bytes.size());
  Progress progress("values", bytes, Progress::Unit::kBytes);
  in_place(folder, [&] { check_values(checkpoint, [&](int64_t done) { progress.update(done); }); });
  progress.finish();
}

void check(const Options& options) {
  const std::string folder = find_model(options.model);
  const OpenModel open(folder);
  if (options.values) look_at_values(folder, open.checkpoint);
  const std::string tokenizer = folder + "/tokenizer.json";
  if (std::filesystem::exists(tokenizer)) {
    Tokenizer::load(tokenizer).check_fits(open.config.vocab_size);
  } else {
    print_note("{}: no tokenizer.json: ids only, no text\n", folder);
  }
  if (!options.manifest.empty()) check_manifest(folder, options.manifest);
  if (!options.write_manifest.empty()) write_manifest(folder, options.write_manifest);
  fmt::print("{}: ok, {} text tensors\n", folder, open.weights.text_tensors);
}

}  // namespace

void add_check(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command =
      app.add_subcommand("check", "Every check of loading a model, without running it");
  add_model_argument(*command, options->model);
  command->add_flag("--values", options->values,
                    "Read the whole files as well and look for NaN and infinity");
  command->add_option("--write-manifest", options->write_manifest,
                      "Write size and SHA-256 of each file as JSON");
  command
      ->add_option("--manifest", options->manifest,
                   "Compare each file with a manifest written before")
      ->check(CLI::ExistingFile);
  command->callback([options, &chosen] { chosen = [options] { check(*options); }; });
}

}  // namespace facet::cli
