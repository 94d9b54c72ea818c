#include "base/mapped_file.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace facet {
namespace {

/// What the signal handler may look at: plain atomics, because a handler can take no lock.
/// Process-wide by nature, as signal handlers are.
struct MappedRange {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::array<char, 256> path{};
};
std::array<MappedRange, 1024>
    ranges;  // more files than any checkpoint has shards; later ones go unnamed
std::atomic<int> truncation_exit_code{65};

void register_range(const std::byte* data, size_t size, const std::string& path) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (MappedRange& range : ranges) {
    uintptr_t free = 0;
    if (!range.begin.compare_exchange_strong(free, begin)) continue;
    const size_t length = std::min(path.size(), range.path.size() - 1);
    std::memcpy(range.path.data(), path.data(), length);
    range.path[length] = '\0';
    range.end.store(begin + size);
    return;
  }
}

void forget_range(const std::byte* data) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (MappedRange& range : ranges) {
    if (range.begin.load() != begin) continue;
    range.end.store(0);
    range.begin.store(0);
    return;
  }
}

void on_bus_error(int signal, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const MappedRange& range : ranges) {
    if (address < range.begin.load() || address >= range.end.load()) continue;
    constexpr char kText[] = ": cut short while it was in use\n";
    // Nothing can be done about a failed write here.
    [[maybe_unused]] ssize_t written = write(2, range.path.data(), std::strlen(range.path.data()));
    written = write(2, kText, sizeof(kText) - 1);
    _exit(truncation_exit_code.load());
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

struct Descriptor {
  int fd;
  ~Descriptor() { close(fd); }
};

int open_regular(const std::string& path, struct stat* info) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error(ErrorCode::kIo, std::strerror(errno), path);
  if (fstat(fd, info) != 0 || !S_ISREG(info->st_mode)) {
    close(fd);
    throw Error(ErrorCode::kIo, "not a regular file", path);
  }
  return fd;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  struct stat info {};
  const Descriptor file{open_regular(path, &info)};
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (mapped == MAP_FAILED) {
    size_ = 0;
    throw Error(ErrorCode::kIo, fmt::format("cannot be mapped: {}", std::strerror(errno)), path);
  }
  data_ = static_cast<const std::byte*>(mapped);
  register_range(data_, size_, path_);
}

MappedFile::~MappedFile() { release(); }

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    release();
    path_ = std::move(other.path_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void MappedFile::release() noexcept {
  if (data_ == nullptr) return;
  forget_range(data_);
  munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
}

void install_truncation_report(int exit_code) {
  truncation_exit_code.store(exit_code);
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

std::string read_file(const std::string& path, int64_t limit) {
  struct stat info {};
  const Descriptor file{open_regular(path, &info)};
  if (info.st_size > limit) {
    throw Error(ErrorCode::kBadCheckpoint,
                fmt::format("{} bytes, more than the {} allowed here", info.st_size, limit), path);
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = read(file.fd, text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(ErrorCode::kIo, std::strerror(errno), path);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  text.resize(filled);
  return text;
}

}  // namespace facet
