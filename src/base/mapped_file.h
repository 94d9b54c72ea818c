#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace facet {

/// A file mapped read-only. Move-only; the bytes live as long as the object.
///
/// Another process may cut the file short while it is mapped; touching the lost pages raises
/// SIGBUS. install_truncation_report() turns that into one line on stderr that names the file, and
/// an exit.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error{kIo} if the file cannot be opened or mapped, or is not a regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  void release() noexcept;

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// From now on a SIGBUS inside a MappedFile prints "PATH: cut short while it was in use" and ends
/// the process with `exit_code`; any other SIGBUS keeps its default effect. Called once, by the
/// program.
void install_truncation_report(int exit_code);

/// Reads a whole small file; throws Error{kBadCheckpoint} if it is larger than `limit` bytes,
/// Error{kIo} if it cannot be read.
std::string read_file(const std::string& path, int64_t limit);

}  // namespace facet
