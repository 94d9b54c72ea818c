#include "cli/load_phases.h"

#include <fmt/core.h>

namespace facet::cli {

void LoadPhases::end(const char* name, int64_t bytes) {
  const auto now = Clock::now();
  phases_.push_back({name, std::chrono::duration<double>(now - last_).count(), bytes});
  last_ = now;
}

std::string LoadPhases::text() const {
  std::string text;
  for (const Phase& phase : phases_) {
    text += fmt::format("{}{}={:.2f}s", text.empty() ? "" : " ", phase.name, phase.seconds);
    if (phase.bytes > 0 && phase.seconds > 0) {
      text += fmt::format(" {}_rate={:.1f}GB/s", phase.name,
                          static_cast<double>(phase.bytes) * 1e-9 / phase.seconds);
    }
  }
  return text;
}

}  // namespace facet::cli
