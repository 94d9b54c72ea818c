// The server whose answers are written in advance: scripted_server SCRIPT.json [--load-seconds S].
//
// The script is a list of {"after": END, "say": ANSWER}: a prompt that ends with END is answered
// with ANSWER, in both of which control tokens stand as their text. Everything but the backend is
// what `facet serve` runs; the tokenizer is the bundled model's.

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <cstdlib>
#include <fmt/core.h>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"
#include "tests/fake/fake_server.h"
#include "tests/fake/scripted_backend.h"
#include "tokenizer/control_tokens.h"

namespace facet::test {
namespace {

constexpr int64_t kMostScriptBytes = 1 << 20;
constexpr const char* kUsage = "usage: scripted_server SCRIPT.json [--load-seconds S]\n";

struct Arguments {
  std::string script;
  double load_seconds = 0;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  if (argc < 2 || argc % 2 != 0) throw Error(ErrorCode::kUsage, kUsage);
  arguments.script = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    if (std::string_view(argv[i]) != "--load-seconds") throw Error(ErrorCode::kUsage, kUsage);
    arguments.load_seconds = std::strtod(argv[i + 1], nullptr);
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
  serve_fake(backend, options, served);
}

}  // namespace
}  // namespace facet::test

int main(int argc, char** argv) {
  try {
    facet::test::serve(facet::test::parse(argc, argv));
  } catch (const facet::Error& error) {
    fmt::print(stderr, "scripted_server: {}\n", error.what());
    return 1;
  }
}
