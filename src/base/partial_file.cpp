#include "base/partial_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace facet {
namespace {

constexpr size_t kPending = size_t{1} << 20;      // bytes gathered before a system call
constexpr int64_t kWriteback = int64_t{1} << 26;  // bytes after which the disk is told to begin

/// Nothing, or a regular file.
bool replaceable(const std::string& path) {
  std::error_code fault;
  const auto type = std::filesystem::status(path, fault).type();
  return type == std::filesystem::file_type::not_found ||
         type == std::filesystem::file_type::regular;
}

}  // namespace

PartialFile::PartialFile(const std::string& path)
    : path_(path), partial_(fmt::format("{}.{}.partial", path, getpid())) {
  // A device or pipe would be replaced by the file, a folder cannot be.
  if (!replaceable(path))
    throw Error(ErrorCode::kIo, "cannot be written: it is there and no regular file", path);
  fd_ = open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("cannot be created");
  pending_.reserve(kPending);
}

PartialFile::~PartialFile() {
  if (fd_ >= 0) close(fd_);
  if (!committed_) unlink(partial_.c_str());
}

void PartialFile::append(std::span<const std::byte> bytes) {
  if (pending_.size() + bytes.size() > kPending) flush();
  if (bytes.size() >= kPending) {
    write_all(bytes);
  } else {
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  }
}

void PartialFile::commit() {
  flush();
  if (fsync(fd_) != 0) fail("cannot be written");
  if (close(std::exchange(fd_, -1)) != 0) fail("cannot be written");
  if (rename(partial_.c_str(), path_.c_str()) != 0) fail("cannot be renamed into place");
  committed_ = true;
  sync_folder();
}

void PartialFile::fail(const char* what) const {
  throw Error(ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(errno)), path_);
}

void PartialFile::flush() {
  write_all(pending_);
  pending_.clear();
}

void PartialFile::write_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written");
    bytes = bytes.subspan(static_cast<size_t>(written));
    start_writeback(written);
  }
}

/// Lets the disk work while the next bytes are made: else gigabytes of dirty pages pile up in
/// memory until commit(). Only advice, so a failure is no error.
void PartialFile::start_writeback(int64_t written) {
  unsynced_ += written;
  if (unsynced_ < kWriteback) return;
  sync_file_range(fd_, synced_, unsynced_, SYNC_FILE_RANGE_WRITE);
  synced_ += std::exchange(unsynced_, 0);
}

/// Makes the new name last through a power cut. Some file systems cannot sync a folder; the file
/// is whole there all the same, so a failure is no error.
void PartialFile::sync_folder() const {
  std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  if (folder.empty()) folder = std::filesystem::path(".");
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

void write_file(const std::string& path, std::string_view content) {
  if (!replaceable(path)) {
    std::ofstream out(path, std::ios::binary);
    out << content;
    out.close();
    if (!out) throw Error(ErrorCode::kIo, "cannot be written", path);
    return;
  }
  PartialFile file(path);
  file.append(std::as_bytes(std::span(content)));
  file.commit();
}

void check_writable(const std::string& path) {
  if (!std::ofstream(path, std::ios::app)) throw Error(ErrorCode::kIo, "cannot be written", path);
}

}  // namespace facet
