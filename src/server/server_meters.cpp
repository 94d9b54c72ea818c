#include "server/server_meters.h"

namespace facet {
namespace {

constexpr auto kRateWindow = std::chrono::seconds(10);

}  // namespace

void ServerMeters::answered(std::string_view reason, const Usage& usage, double seconds) {
  ++answered_[reason];
  reasoning_tokens += usage.reasoning;
  request_seconds.observe(seconds);
  request_prompt_tokens.observe(usage.prompt);
  request_generated_tokens.observe(usage.completion);
}

void ServerMeters::cancelled(const Usage& usage) {
  ++cancelled_;
  reasoning_tokens += usage.reasoning;
}

void ServerMeters::refused(ApiCode code) { ++refused_[api_row(code).code]; }

void ServerMeters::tick(Clock::time_point now) {
  samples_.push_back({now, generated_tokens});
  // The first one left is the oldest inside the window, or the last before it.
  while (samples_.size() > 1 && now - samples_[1].at >= kRateWindow) samples_.pop_front();
}

double ServerMeters::tokens_per_second(Clock::time_point now) const {
  const Sample& first = samples_.front();
  const std::chrono::duration<double> passed = now - first.at;
  if (passed.count() <= 0) return 0;
  return static_cast<double>(generated_tokens - first.generated) / passed.count();
}

}  // namespace facet
