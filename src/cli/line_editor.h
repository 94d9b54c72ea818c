#pragma once

#include <memory>
#include <optional>
#include <string>

namespace facet::cli {

/// A line from the terminal with editing and history (libedit). Alt-Enter puts a line break into
/// it.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// Without the line's end; nullopt at Ctrl-D on an empty line. Ctrl-C gives up the line: an empty
  /// one comes back.
  std::optional<std::string> read(const std::string& prompt);
  /// Was the last line given up with Ctrl-C?
  bool interrupted() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet::cli
