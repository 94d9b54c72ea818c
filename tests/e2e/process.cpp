#include "tests/e2e/process.h"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

namespace facet::test {

std::string golden(const std::string& name) { return data_path("goldens/" + name); }

const std::string& facet_program() {
  static const std::string program = [] {
    const char* chosen = std::getenv("FACET_PROGRAM");
    return std::string(chosen != nullptr ? chosen : FACET_PROGRAM);
  }();
  return program;
}

namespace {

/// In the new process.
[[noreturn]] void execute(const std::string& program,
                          const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment) {
  for (const std::string& each : environment) putenv(const_cast<char*>(each.c_str()));
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  _exit(127);
}

void redirect(const std::string& path, int flags, int target) {
  dup2(open(path.c_str(), flags | O_CLOEXEC, 0600), target);
}

}  // namespace

Finished run_facet(const std::vector<std::string>& arguments, const std::string& input) {
  return run_facet(arguments, RunOptions{.input = input});
}

Finished run_facet(const std::vector<std::string>& arguments, const RunOptions& options) {
  // Files instead of pipes: nothing can block, however much the program writes.
  const TempDir dir;
  dir.write("in", options.input);
  dir.write("out", "");
  dir.write("err", "");
  const pid_t child = fork();
  if (child == 0) {
    redirect(dir.path("in"), O_RDONLY, STDIN_FILENO);
    redirect(options.out.empty() ? dir.path("out") : options.out, O_WRONLY, STDOUT_FILENO);
    redirect(options.err.empty() ? dir.path("err") : options.err, O_WRONLY, STDERR_FILENO);
    if (options.before) options.before();
    if (options.closed) close(*options.closed);
    execute(facet_program(), arguments, options.environment);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Finished result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  result.out = read_text(dir.path("out"));
  result.err = read_text(dir.path("err"));
  return result;
}

pid_t start_program(const std::string& program,
                    const std::vector<std::string>& arguments,
                    const std::string& log,
                    const std::vector<std::string>& environment) {
  const pid_t child = fork();
  if (child != 0) return child;
  redirect(log, O_WRONLY | O_CREAT, STDERR_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  execute(program, arguments, environment);
}

}  // namespace facet::test
