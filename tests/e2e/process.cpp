#include "tests/e2e/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

namespace facet::test {

std::string golden(const std::string& name) { return data_path("goldens/" + name); }

Finished run_facet(const std::vector<std::string>& arguments, const std::string& input) {
  // Files instead of pipes: nothing can block, however much the program writes.
  const TempDir dir;
  dir.write("in", input);
  const pid_t child = fork();
  if (child == 0) {
    const auto redirect = [&](const char* name, int flags, int target) {
      const int fd = open(dir.path(name).c_str(), flags, 0600);
      dup2(fd, target);
    };
    redirect("in", O_RDONLY, STDIN_FILENO);
    redirect("out", O_WRONLY | O_CREAT, STDOUT_FILENO);
    redirect("err", O_WRONLY | O_CREAT, STDERR_FILENO);
    std::vector<char*> argv = {const_cast<char*>(FACET_PROGRAM)};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(FACET_PROGRAM, argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Finished result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  result.out = read_text(dir.path("out"));
  result.err = read_text(dir.path("err"));
  return result;
}

}  // namespace facet::test
