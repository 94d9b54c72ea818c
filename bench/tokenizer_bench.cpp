// Loads a tokenizer.json and encodes every file of a folder, on one core.
//   bench_tokenizer TOKENIZER_JSON FOLDER
// Prints one line: load_ms (best of 5), mb_per_s of an Encoder (best of 5 passes, the first of
// which meets every word for the first time), first_mb_per_s of that first pass, tokens.

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <fmt/core.h>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "tokenizer/tokenizer.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::string> read_folder(const std::string& folder) {
  constexpr int64_t kMaxFile = int64_t{1} << 30;
  std::vector<std::string> texts;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.is_regular_file()) texts.push_back(facet::read_file(file.path().string(), kMaxFile));
  }
  return texts;
}

void measure(const std::string& json_path, const std::string& folder) {
  constexpr int kRepeats = 5;
  double load = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = Clock::now();
    const auto tokenizer = facet::Tokenizer::load(json_path);
    load = std::min(load, seconds_since(start));
  }
  const auto tokenizer = facet::Tokenizer::load(json_path);
  const auto texts = read_folder(folder);
  size_t bytes = 0;
  for (const auto& text : texts) bytes += text.size();

  facet::Encoder encoder(tokenizer);
  std::vector<facet::TokenId> ids;
  double first = 0;
  double best = 1e9;
  size_t tokens = 0;
  for (int i = 0; i < kRepeats; ++i) {
    tokens = 0;
    const auto start = Clock::now();
    for (const auto& text : texts) {
      ids.clear();
      encoder.encode(text, facet::ControlTokens::kIgnore, ids);
      tokens += ids.size();
    }
    const double passed = seconds_since(start);
    if (i == 0) first = passed;
    best = std::min(best, passed);
  }
  const double megabytes = static_cast<double>(bytes) / 1e6;
  fmt::print("load_ms={:.1f} mb_per_s={:.1f} first_mb_per_s={:.1f} mb={:.2f} tokens={}\n",
             load * 1e3, megabytes / best, megabytes / first, megabytes, tokens);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: bench_tokenizer TOKENIZER_JSON FOLDER\n");
    return 2;
  }
  try {
    measure(argv[1], argv[2]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
