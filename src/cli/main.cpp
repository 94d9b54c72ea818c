#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fmt/core.h>
#include <new>
#ifdef FACET_STATIC_LIBC
#include <nss.h>
#endif

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/exit_code.h"

namespace facet::cli {
namespace {

int run_program(int argc, char** argv) {
  CLI::App app("Facet serves Google's Gemma 4: chat, generate, inspect.", "facet");
  app.require_subcommand(1);
  Chosen chosen;
  for (const auto add : {add_serve, add_chat, add_run, add_generate, add_logits, add_perplexity,
                         add_tokenize, add_detokenize, add_render, add_info, add_check, add_verify,
                         add_quantize, add_synth, add_bench, add_version}) {
    add(app, chosen);
  }
  const std::string first = argc > 1 ? argv[1] : "";
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  const bool known = std::any_of(commands.begin(), commands.end(), [&](const CLI::App* command) {
    return command->get_name() == first;
  });
  if (!known && !first.empty() && first.front() != '-') {
    throw Error(ErrorCode::kUsage,
                fmt::format("no command '{}' (see facet --help)", printable(first, 40)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "facet: {} (see facet --help)\n", error.what());
    return kExitUsage;
  }
  chosen();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error(ErrorCode::kIo, "the output could not be written", "stdout");
  }
  return kExitDone;
}

}  // namespace
}  // namespace facet::cli

int main(int argc, char** argv) {
  using namespace facet;  // NOLINT(google-build-using-namespace): main is the one place outside it
#ifdef FACET_STATIC_LIBC
  // All other sources of names are shared objects made for the C library of the system at hand.
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
#endif
  install_truncation_report(cli::exit_code(ErrorCode::kBadCheckpoint));
  try {
    return cli::run_program(argc, argv);
  } catch (const Error& error) {
    fmt::print(stderr, "facet: {}\n", error.what());
    return cli::exit_code(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "facet: out of memory\n");
    return cli::exit_code(ErrorCode::kOutOfMemory);
  } catch (const std::exception& error) {
    fmt::print(stderr, "facet: internal fault: {}\n", error.what());
    return cli::exit_code(ErrorCode::kInternal);
  }
}
