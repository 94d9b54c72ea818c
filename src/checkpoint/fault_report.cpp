#include "checkpoint/fault_report.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

constexpr size_t kMaxMessage = 1000;  // bytes: keeps a hostile file from flooding the terminal

/// "missing  NAME: message": the kind fills a column, so that names line up.
std::string line(std::string_view kind, std::string_view tensor, std::string_view message) {
  return fmt::format("{:<9}{}: {}", kind, printable(tensor), printable(message, kMaxMessage));
}

}  // namespace

void FaultReport::missing(std::string_view tensor, std::string_view wanted) {
  lines_.push_back(line("missing", tensor, fmt::format("wanted {}", wanted)));
}

void FaultReport::extra(std::string_view tensor, std::string_view why) {
  lines_.push_back(line("extra", tensor, why));
}

void FaultReport::wrong_shape(std::string_view tensor,
                              std::string_view found,
                              std::string_view wanted) {
  lines_.push_back(line("shape", tensor, fmt::format("found {}, wanted {}", found, wanted)));
}

void FaultReport::wrong_dtype(std::string_view tensor,
                              std::string_view found,
                              std::string_view wanted) {
  lines_.push_back(line("dtype", tensor, fmt::format("found {}, wanted {}", found, wanted)));
}

void FaultReport::bad(std::string_view tensor, std::string_view message) {
  lines_.push_back(line("bad", tensor, message));
}

void FaultReport::throw_if_any() const {
  if (lines_.empty()) return;
  std::string text = lines_.size() == 1 ? "1 fault:" : fmt::format("{} faults:", lines_.size());
  for (const std::string& fault : lines_) text += "\n" + fault;
  throw Error(ErrorCode::kBadCheckpoint, std::move(text));
}

}  // namespace facet
