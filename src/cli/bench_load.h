#pragma once

#include <boost/json/array.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "traffic/prompt_file.h"
#include "traffic/record.h"
#include "traffic/report.h"
#include "traffic/workload.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's own name
class App;
}

namespace facet::cli {

/// What --stop-at-end says.
enum class AnswerEnd { kAtLength, kAtEndToken };

/// The flags that `bench serve` and `bench engine` share; what is not given comes from the preset.
struct LoadOptions {
  std::string preset = "fixed";
  std::optional<int32_t> requests;
  std::optional<int32_t> input_len;
  std::optional<int32_t> output_len;
  std::optional<double> range_ratio;
  std::optional<uint32_t> seed;
  std::optional<int32_t> shared_prefix;
  std::optional<double> request_rate;
  std::optional<int32_t> concurrency;
  std::string prompts;  ///< a JSONL file
  std::vector<int32_t> sweep;
  std::vector<double> sweep_rates;
  int32_t warm_ups = 1;
  bool stop_at_end = false;
  std::string json;
  std::string plot;
};
void add_load_options(CLI::App& command, LoadOptions& options);

/// How random prompts are made: as ids, or as the text of one message.
enum class PromptForm { kIds, kChat };

/// One request as it is to be sent: ids, or a text, or messages.
struct PlannedRequest {
  std::vector<int32_t> ids;
  std::string text;
  std::string messages;  ///< a JSON array
  int32_t max_tokens = 0;
};

/// One run, for whoever carries it out.
struct LoadRun {
  std::vector<PlannedRequest> requests;
  std::vector<double> arrivals;
  int32_t concurrency = 0;
  AnswerEnd answer_end = AnswerEnd::kAtLength;
  std::function<void(int64_t ended)> on_progress;
};

/// What is measured.
struct LoadTarget {
  std::string name;  ///< for the report
  std::string model;
  std::string fingerprint;     ///< may be empty
  boost::json::array kernels;  ///< as kernels_json() gives it; empty: not known
  PromptForm form = PromptForm::kIds;
  const Tokenizer* tokenizer = nullptr;  ///< for random prompts
  std::function<RunRecords(LoadRun)> run;
};

/// Everything of such a benchmark but the sending: which runs, what is printed and written.
class LoadBench {
 public:
  /// Reads the file of prompts and sees that the files to be written can be. Throws Error{kUsage},
  /// {kBadInput} or {kIo}.
  explicit LoadBench(const LoadOptions& options);

  /// Are prompts made up, so that a tokenizer is needed?
  bool makes_prompts() const { return file_.empty(); }
  /// The runs, their reports on stdout, the files. Throws Error{kIo} if a warm-up request fails, or
  /// at the end if any other did. An interruption ends the program with its signal, after the
  /// report.
  void run(const LoadTarget& target) const;

 private:
  struct Result {
    RunFacts facts;
    RunStatistics statistics;
  };

  std::vector<Workload> levels() const;
  std::vector<PlannedRequest> planned(const Workload& workload,
                                      const LoadTarget& target,
                                      uint64_t prompt_seed) const;
  LoadRun load_run(const Workload& workload, const LoadTarget& target, uint64_t prompt_seed) const;
  void warm_up(const LoadTarget& target) const;
  Result measure(const Workload& workload, const LoadTarget& target, uint64_t prompt_seed) const;
  std::string prompts_in_words() const;
  void write_json(const LoadTarget& target, const std::vector<Result>& results) const;
  void write_plot(const LoadTarget& target, const std::vector<Result>& results) const;

  const LoadOptions& options_;  // the command's
  Workload workload_;
  std::vector<FilePrompt> file_;
};

}  // namespace facet::cli
