// What a model wrote: text, and control tokens for bytes that no UTF-8 has. The first byte holds
// the options, the second where the text is cut. Calls must come out as JSON objects, and the
// events must join to the same answer however the text is cut.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fmt/core.h>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "chat/output_test_parts.h"

namespace {

using facet::OutputOptions;
using facet::TokenId;
using facet::test::OutputPiece;
namespace control = facet::control;

/// For the bytes from 0xF5 on.
constexpr std::array<TokenId, 11> kControls = {
    control::kToolCallOpen, control::kToolCallClose,   control::kStringDelimiter,
    control::kChannelOpen,  control::kChannelClose,    control::kTurnOpen,
    control::kTurnClose,    control::kThink,           control::kImage,
    control::kEos,          control::kToolResponseOpen};
constexpr unsigned char kFirstControl = 0xF5;

OutputOptions options_of(uint8_t bits) {
  OutputOptions options;
  options.thinking = (bits & 1) != 0;
  options.open_thought = (bits & 2) != 0;
  if ((bits & 4) != 0) {
    options.tools = {{"f",
                      {{"n", {"integer", "number", "null"}},
                       {"s", {"string"}},
                       {"b", {"boolean"}},
                       {"l", {"array"}},
                       {"o", {"object"}}}}};
  }
  if ((bits & 8) != 0) options.stop = {"END", "D\n", "\\", "aab"};
  if ((bits & 16) != 0) options.stop_text = facet::StopText::kKeep;
  return options;
}

facet::FinishCause cause_of(uint8_t bits) {
  constexpr std::array<facet::FinishCause, 4> kCauses = {
      facet::FinishCause::kEndToken, facet::FinishCause::kLength, facet::FinishCause::kStopToken,
      facet::FinishCause::kAbort};
  return kCauses[bits >> 6];
}

/// `cuts` is the state of a small generator: after each character the text is cut or goes on.
std::vector<OutputPiece> pieces_of(std::string_view bytes, uint32_t cuts) {
  std::vector<OutputPiece> pieces(1);
  while (!bytes.empty()) {
    const auto first = static_cast<unsigned char>(bytes.front());
    const size_t length = facet::utf8_length(bytes);
    if (length > 0) {
      cuts = cuts * 1664525 + 1013904223;
      if (pieces.back().control || (cuts >> 30) == 0) pieces.emplace_back();
      pieces.back().text += bytes.substr(0, length);
    } else if (first >= kFirstControl) {
      pieces.push_back({{}, kControls[first - kFirstControl]});
    }
    bytes.remove_prefix(length > 0 ? length : 1);
  }
  return pieces;
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  facet::OutputResult result;
  const std::string found = facet::test::fault_of_output(
      pieces_of(bytes, data[1]), options_of(data[0]), cause_of(data[0]), result);
  if (found.empty()) return 0;
  fmt::print(stderr, "{}\n", found);
  std::abort();
}
