#include "base/process.h"

#include <array>
#include <climits>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

namespace facet {
namespace {

/// When the machine started, as Unix time.
int64_t boot_time() {
  std::ifstream in("/proc/stat");
  int64_t seconds = 0;
  for (std::string word; in >> word;) {
    if (word == "btime" && in >> seconds) break;
  }
  return seconds;
}

std::string text_of(const char* path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

int64_t count_descriptors() {
  std::error_code fault;
  const std::filesystem::directory_iterator folder("/proc/self/fd", fault);
  return fault ? 0 : std::distance(begin(folder), end(folder)) - 1;  // one is the folder's own
}

}  // namespace

int64_t peak_resident_bytes() {
  struct rusage usage {};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

void raise_descriptor_limit() {
  struct rlimit limit {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

std::string program_file() {
  std::array<char, PATH_MAX> self{};
  const ssize_t length = readlink("/proc/self/exe", self.data(), self.size());
  if (length > 0) return {self.data(), static_cast<size_t>(length)};
  // No /proc, as in an empty root: as the kernel was asked for it, from the folder of that time.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel hands out addresses as numbers
  const auto* asked = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return asked == nullptr ? std::string() : std::string(asked);
}

std::string command_line() {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=+@%";
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::string line;
  for (std::string word; std::getline(in, word, '\0');) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

ProcessUsage process_usage() {
  ProcessUsage usage;
  const std::string line = text_of("/proc/self/stat");
  // The second field is the program's name in parentheses and may hold anything.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return usage;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  const auto skip = [&](int count) {
    for (int i = 0; i < count; ++i) fields >> skipped;
  };
  int64_t user = 0;
  int64_t system = 0;
  int64_t started = 0;
  int64_t resident_pages = 0;
  skip(11);  // fields 3 to 13
  fields >> user >> system;
  skip(6);  // 16 to 21
  fields >> started >> usage.virtual_bytes >> resident_pages;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  usage.cpu_seconds = static_cast<double>(user + system) / ticks;
  usage.start_time = static_cast<double>(boot_time()) + static_cast<double>(started) / ticks;
  usage.resident_bytes = resident_pages * sysconf(_SC_PAGESIZE);
  usage.open_descriptors = count_descriptors();
  struct rlimit limit {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    usage.most_descriptors = static_cast<int64_t>(limit.rlim_cur);
  return usage;
}

}  // namespace facet
