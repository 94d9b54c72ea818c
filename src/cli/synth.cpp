#include "model/gemma4/synth.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/core.h>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <spawn.h>
#include <sys/wait.h>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/partial_file.h"
#include "base/text.h"
#include "checkpoint/json.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostConfigBytes = 16 << 20;
constexpr int64_t kMostTokenizerBytes = 256 << 20;
/// JSON headers and index, per tensor, and the small files.
constexpr int64_t kHeaderBytes = 512;
constexpr int64_t kOtherBytes = 64 << 20;

struct Options {
  std::string config;
  std::string hf_quant_config;
  std::string out;
  std::string tokenizer;
  int64_t seed = 0;
  int32_t threads = 0;
  bool dry_run = false;
};

gemma4::SynthPlan plan(const Options& options, gemma4::Gemma4Config& config) {
  const boost::json::object file = read_json_object(options.config, kMostConfigBytes);
  std::optional<boost::json::object> hf_quant_config;
  if (!options.hf_quant_config.empty()) {
    hf_quant_config = read_json_object(options.hf_quant_config, kMostConfigBytes);
  }
  config = gemma4::Gemma4Config::parse(file);
  const QuantConfig quant = QuantConfig::parse(file, hf_quant_config);
  return gemma4::plan_synth(config, quant, activation_of(config),
                            static_cast<uint64_t>(options.seed));
}

void print_plan(const gemma4::SynthPlan& plan) {
  for (const gemma4::SynthTensor& tensor : plan.tensors) {
    fmt::print("{} {} {}\n", tensor.name, to_string(tensor.dtype), to_string(tensor.shape));
  }
  print_note("{} text tensors, {} bytes\n", plan.tensors.size(), plan.bytes);
}

/// The folder to fill: made if it is not there, and taken away again, or emptied, if the work
/// fails.
class OutFolder {
 public:
  explicit OutFolder(const std::string& path) : path_(path) {
    std::error_code fault;
    if (fs::exists(path, fault) && !fs::is_directory(path, fault)) {
      throw Error(ErrorCode::kUsage, "--out is a file, wanted a new or empty folder", path);
    }
    made_ = fs::create_directories(path, fault);
    if (fault) throw Error(ErrorCode::kIo, fault.message(), path);
    const bool empty = fs::is_empty(path, fault);
    if (fault) throw Error(ErrorCode::kIo, fault.message(), path);
    if (!empty) {
      throw Error(ErrorCode::kUsage, "--out is not empty, wanted a new or empty folder", path);
    }
  }
  OutFolder(const OutFolder&) = delete;
  OutFolder& operator=(const OutFolder&) = delete;
  ~OutFolder() {
    if (kept_) return;
    std::error_code ignored;
    for (const std::string& file : files_) fs::remove(file, ignored);
    if (made_) fs::remove(path_, ignored);
  }

  /// The path of a file that goes with the folder.
  std::string file(const char* name) {
    files_.push_back((fs::path(path_) / name).string());
    return files_.back();
  }
  void add(const std::vector<std::string>& files) {
    files_.insert(files_.end(), files.begin(), files.end());
  }
  void keep() { kept_ = true; }

 private:
  std::string path_;
  std::vector<std::string> files_;
  bool made_ = false;
  bool kept_ = false;
};

/// Runs `xz -dc` with its output in `to`.
void unpack_xz(const std::string& from, const std::string& to) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, to.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0666);
  std::string words[] = {"xz", "-dc", "--", from};
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
  pid_t child = 0;
  const int failed = posix_spawnp(&child, "xz", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("cannot be unpacked, xz does not start: {}", std::strerror(failed)),
                from);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) throw Error(ErrorCode::kBadInput, "cannot be unpacked by xz", from);
}

/// tokenizer.json from a JSON file or one packed by xz; checked against the model's vocabulary.
void write_tokenizer(const Options& options, int32_t vocab_size, const std::string& to) {
  const std::string content = read_file(options.tokenizer, kMostTokenizerBytes);
  constexpr std::string_view kXz(
      "\xFD"
      "7zXZ\0",
      6);
  if (content.starts_with(kXz)) {
    unpack_xz(options.tokenizer, to);
  } else {
    write_file(to, content);
  }
  in_place(options.tokenizer, [&] { Tokenizer::load(to).check_fits(vocab_size); });
}

/// Where the generation config of "DIR/config.json" or "DIR/NAME_config.json" would lie; empty if
/// the file has another name.
std::string generation_config_beside(const std::string& config) {
  constexpr std::string_view kEnd = "config.json";
  if (!config.ends_with(kEnd)) return {};
  return config.substr(0, config.size() - kEnd.size()) + "generation_config.json";
}

void write_weights(const Options& options, const gemma4::SynthPlan& plan, OutFolder& out) {
  WorkerPool pool(options.threads);
  Progress progress("weights", plan.bytes, Progress::Unit::kBytes);
  out.add(gemma4::write_synth(plan, options.out, gemma4::kShardBytes, pool,
                              [&](int64_t done) { progress.update(done); }));
  progress.finish();
}

void synth(const Options& options) {
  gemma4::Gemma4Config config;
  const gemma4::SynthPlan planned = in_place(options.config, [&] { return plan(options, config); });
  if (options.dry_run) return print_plan(planned);

  OutFolder out(options.out);
  gemma4::check_room(options.out,
                     planned.bytes + std::ssize(planned.tensors) * kHeaderBytes + kOtherBytes);
  if (!options.tokenizer.empty()) {
    write_tokenizer(options, config.vocab_size, out.file("tokenizer.json"));
  }
  if (const std::string beside = generation_config_beside(options.config); fs::exists(beside)) {
    read_json_object(beside, kMostConfigBytes);  // a fault is named now, not after all weights
    write_file(out.file("generation_config.json"), read_file(beside, kMostConfigBytes));
  }
  if (!options.hf_quant_config.empty()) {
    write_file(out.file("hf_quant_config.json"),
               read_file(options.hf_quant_config, kMostConfigBytes));
  }
  write_weights(options, planned, out);
  // Last: without it no program takes the folder for a model.
  write_file(out.file("config.json"), read_file(options.config, kMostConfigBytes));
  const OpenModel written(options.out);  // what was written must load
  fmt::print("{}: {}, {} text tensors of {}\n", options.out, written.quant.describe(),
             written.weights.text_tensors, human_bytes(written.weights.text_bytes));
  out.keep();
}

}  // namespace

void add_synth(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command = app.add_subcommand(
      "synth", "Write a model of random weights with the tensors that a config.json describes");
  command
      ->add_option("CONFIG", options->config,
                   "config.json of the model to imitate; a *generation_config.json beside it is "
                   "copied too")
      ->required()
      ->check(CLI::ExistingFile);
  command
      ->add_option("HF_QUANT", options->hf_quant_config,
                   "Its hf_quant_config.json, if it has one (ModelOpt)")
      ->check(CLI::ExistingFile);
  CLI::Option* out =
      command->add_option("--out", options->out, "The folder to write: new, or empty");
  command->add_option("--seed", options->seed, "Same seed, same weights, bit for bit")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  command
      ->add_option(
          "--tokenizer", options->tokenizer,
          "A tokenizer.json (or .json.xz) to put beside the weights; without one the model "
          "takes ids only")
      ->check(CLI::ExistingFile);
  command->add_option("--threads", options->threads, "Threads that make weights; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_flag("--dry-run", options->dry_run,
                    "Print name, dtype and shape of every tensor, and write nothing");
  command->callback([options, out, &chosen] {
    if (!options->dry_run && out->count() == 0) throw CLI::RequiredError("--out");
    chosen = [options] { synth(*options); };
  });
}

}  // namespace facet::cli
