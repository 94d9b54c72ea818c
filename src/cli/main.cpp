#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <fmt/core.h>
#include <iostream>
#ifdef FACET_STATIC_LIBC
#include <nss.h>
#endif
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/exit_code.h"

namespace facet::cli {
namespace {

/// A file opened later must not become what a closed stdin, stdout or stderr was: text would go
/// into it. Output to a closed stdout still fails.
void open_standard_files() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) != -1) continue;
    // open() takes the lowest number that is free, which is this one.
    (void)open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
  }
}

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
    const int code = app.exit(help);
    if (!std::cout.flush()) throw Error(ErrorCode::kIo, kUnwritten, "stdout");
    return code;
  } catch (const CLI::ParseError& error) {
    print_note("facet: {} (see facet --help)\n", error.what());
    return kExitUsage;
  }
  chosen();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error(ErrorCode::kIo, kUnwritten, "stdout");
  }
  return kExitDone;
}

}  // namespace
}  // namespace facet::cli

int main(int argc, char** argv) {
  using namespace facet;  // NOLINT(google-build-using-namespace): main is the one place outside it
  cli::open_standard_files();
#ifdef FACET_STATIC_LIBC
  // All other sources of names are shared objects made for the C library of the system at hand.
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
#endif
  install_truncation_report(cli::exit_code(ErrorCode::kBadCheckpoint));
  try {
    return cli::run_program(argc, argv);
  } catch (...) {
    return cli::report_failure();
  }
}
