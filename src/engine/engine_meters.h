#pragma once

#include <array>

#include "base/histogram.h"

namespace facet {

// Borders of histograms (server-api 11.2), in seconds or tokens.
inline constexpr std::array kFirstTokenBorders = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
    1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
inline constexpr std::array kTokenGapBorders = {0.002, 0.005, 0.01,  0.015, 0.02, 0.025, 0.03,
                                                0.04,  0.05,  0.075, 0.1,   0.15, 0.2,   0.3,
                                                0.4,   0.5,   0.75,  1.0,   2.5,  5.0,   8.0};
inline constexpr std::array kRequestBorders = {0.1,   0.3,   0.5,    1.0,   2.5,   5.0,
                                               10.0,  20.0,  40.0,   60.0,  120.0, 240.0,
                                               480.0, 960.0, 1920.0, 7680.0};
inline constexpr std::array kTokenCountBorders = {
    1.0,    2.0,    5.0,    10.0,    20.0,    50.0,    100.0,    200.0,    500.0,
    1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100000.0, 200000.0, 262144.0};

/// What the engine measures of its steps and requests. Written by the engine thread, before a sink
/// hears what it is about; read by any.
struct EngineMeters {
  Histogram step_tokens{kTokenCountBorders};  ///< rows of a step, prompts and answers
  Histogram step_seconds{kTokenGapBorders};
  Histogram queue_seconds{kFirstTokenBorders};  ///< from submit() until the request first begins
  Histogram prefill_seconds{kRequestBorders};   ///< from there to its first token
  Histogram decode_seconds{kRequestBorders};    ///< from there to its last choice's end
};

}  // namespace facet
