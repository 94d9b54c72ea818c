// The server whose answers are written in advance:
// scripted_server SCRIPT.json [--load-seconds S] [--faults FILE].
//
// The script is a list of {"after": END, "say": ANSWER}: a prompt that ends with END is answered
// with ANSWER, in both of which control tokens stand as their text. Everything but the backend is
// what `facet serve` runs; the tokenizer is the bundled model's. FILE is a FaultState that says
// which op fails (tests/fault).

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "cli/exit_code.h"
#include "tests/fake/fake_server.h"
#include "tests/fake/scripted_backend.h"
#include "tests/fault/fault_backend.h"
#include "tokenizer/control_tokens.h"

namespace facet::test {
namespace {

constexpr int64_t kMostScriptBytes = 1 << 20;
constexpr const char* kUsage =
    "usage: scripted_server SCRIPT.json [--load-seconds S] [--faults FILE]";

struct Arguments {
  std::string script;
  double load_seconds = 0;
  std::string faults;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  if (argc < 2 || argc % 2 != 0) throw Error(ErrorCode::kUsage, kUsage);
  arguments.script = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--load-seconds") {
      arguments.load_seconds = std::strtod(argv[i + 1], nullptr);
    } else if (name == "--faults") {
      arguments.faults = argv[i + 1];
    } else {
      throw Error(ErrorCode::kUsage, kUsage);
    }
  }
  return arguments;
}

std::vector<int32_t> ids_of(const Tokenizer& tokenizer, const boost::json::value& text) {
  std::vector<int32_t> ids;
  for (const TokenId id :
       tokenizer.encode(boost::json::value_to<std::string>(text), ControlTokens::kRecognise)) {
    ids.push_back(to_index(id));
  }
  return ids;
}

/// What the test and this process share; it stays mapped.
FaultState& map_faults(const std::string& path) {
  static FaultState none{};
  if (path.empty()) return none;
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  void* at = mmap(nullptr, sizeof(FaultState), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) throw Error(ErrorCode::kIo, "cannot be mapped", path);
  close(fd);
  return *static_cast<FaultState*>(at);
}

void serve(const Arguments& arguments) {
  const Tokenizer tokenizer = fake_tokenizer();
  ScriptedBackend backend(to_index(control::kTurnClose));
  const boost::json::value script =
      boost::json::parse(read_file(arguments.script, kMostScriptBytes));
  for (const boost::json::value& line : script.as_array())
    backend.add({ids_of(tokenizer, line.at("after")), ids_of(tokenizer, line.at("say"))});
  cli::ServeOptions options;
  options.model.model = "scripted";
  options.listen.port = 0;
  options.drain = 10;
  FakeServed served;
  served.fingerprint = "fp_scripted";
  served.model = {.max_rows = 512, .max_logit_rows = 128};
  served.load_seconds = arguments.load_seconds;
  FaultBackend faulty(backend, map_faults(arguments.faults));
  serve_fake(faulty, options, served);
}

}  // namespace
}  // namespace facet::test

int main(int argc, char** argv) {
  try {
    facet::test::serve(facet::test::parse(argc, argv));
  } catch (...) {
    return facet::cli::report_failure();
  }
}
