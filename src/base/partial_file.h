#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

/// A file under a temporary name beside its own until commit(); removed if that never comes. So a
/// file that is there under its own name is whole, and what it replaces stays until then; it
/// replaces nothing but a regular file. Every
/// member throws Error{kIo} that names the file.
class PartialFile {
 public:
  explicit PartialFile(const std::string& path);
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile();

  void append(std::span<const std::byte> bytes);
  /// Waits for the disk, then gives the file its name.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;
  void flush();
  void write_all(std::span<const std::byte> bytes);
  void start_writeback(int64_t written);
  void sync_folder() const;

  std::string path_;
  std::string partial_;
  int fd_ = -1;
  bool committed_ = false;
  std::vector<std::byte> pending_;
  int64_t synced_ = 0;    // bytes whose way to the disk has begun
  int64_t unsynced_ = 0;  // bytes written after them
};

/// Writes a whole file, by way of PartialFile; a pipe or a device (/dev/stdout) directly.
void write_file(const std::string& path, std::string_view content);

/// Before hours of work: throws Error{kIo} if write_file() could not write `path`. What the file
/// holds stays; one that is not there is made.
void check_writable(const std::string& path);

}  // namespace facet
