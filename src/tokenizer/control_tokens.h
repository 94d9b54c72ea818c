#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/ids.h"

namespace facet {

/// May the sampler choose this control token, and does choosing it end the answer?
enum class ControlRole { kNeverSampled, kSampled, kEndsAnswer };

/// A text-only checkpoint has the text tokens; without the media ones media are off.
enum class ControlKind { kText, kMedia };

/// One control token of Gemma 4: the same id and text in every published size.
struct ControlToken {
  TokenId id;
  std::string_view text;
  ControlRole role;
  ControlKind kind;

  constexpr bool may_be_sampled() const { return role != ControlRole::kNeverSampled; }
  constexpr bool ends_answer() const { return role == ControlRole::kEndsAnswer; }
};

namespace control {

inline constexpr TokenId kPad{0};
inline constexpr TokenId kEos{1};
inline constexpr TokenId kBos{2};  ///< exactly once, at position 0
inline constexpr TokenId kUnk{3};
inline constexpr TokenId kMask{4};
inline constexpr TokenId kToolOpen{46};  ///< around one tool declaration
inline constexpr TokenId kToolClose{47};
inline constexpr TokenId kToolCallOpen{48};
inline constexpr TokenId kToolCallClose{49};
inline constexpr TokenId kToolResponseOpen{50};  ///< written by the model when its calls are done
inline constexpr TokenId kToolResponseClose{51};
inline constexpr TokenId kStringDelimiter{52};  ///< opens and closes a string
inline constexpr TokenId kThink{98};            ///< thinking on, in the system turn
inline constexpr TokenId kChannelOpen{100};
inline constexpr TokenId kChannelClose{101};
inline constexpr TokenId kTurnOpen{105};
inline constexpr TokenId kTurnClose{106};
inline constexpr TokenId kImageOpen{255999};  ///< around the vectors of one image
inline constexpr TokenId kAudioOpen{256000};
inline constexpr TokenId kImage{258880};  ///< one image vector
inline constexpr TokenId kAudio{258881};  ///< one audio vector
inline constexpr TokenId kImageClose{258882};
inline constexpr TokenId kAudioClose{258883};
inline constexpr TokenId kVideo{258884};  ///< one frame vector

}  // namespace control

/// All control tokens, ascending by id: 17 of text, 7 of media.
inline constexpr std::array<ControlToken, 24> kControlTokens{{
    {control::kPad, "<pad>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kEos, "<eos>", ControlRole::kEndsAnswer, ControlKind::kText},
    {control::kBos, "<bos>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kUnk, "<unk>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kMask, "<mask>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kToolOpen, "<|tool>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kToolClose, "<tool|>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kToolCallOpen, "<|tool_call>", ControlRole::kSampled, ControlKind::kText},
    {control::kToolCallClose, "<tool_call|>", ControlRole::kSampled, ControlKind::kText},
    {control::kToolResponseOpen, "<|tool_response>", ControlRole::kEndsAnswer, ControlKind::kText},
    {control::kToolResponseClose, "<tool_response|>", ControlRole::kNeverSampled,
     ControlKind::kText},
    {control::kStringDelimiter, "<|\"|>", ControlRole::kSampled, ControlKind::kText},
    {control::kThink, "<|think|>", ControlRole::kNeverSampled, ControlKind::kText},
    {control::kChannelOpen, "<|channel>", ControlRole::kSampled, ControlKind::kText},
    {control::kChannelClose, "<channel|>", ControlRole::kSampled, ControlKind::kText},
    {control::kTurnOpen, "<|turn>", ControlRole::kSampled, ControlKind::kText},
    {control::kTurnClose, "<turn|>", ControlRole::kEndsAnswer, ControlKind::kText},
    {control::kImageOpen, "<|image>", ControlRole::kNeverSampled, ControlKind::kMedia},
    {control::kAudioOpen, "<|audio>", ControlRole::kNeverSampled, ControlKind::kMedia},
    {control::kImage, "<|image|>", ControlRole::kNeverSampled, ControlKind::kMedia},
    {control::kAudio, "<|audio|>", ControlRole::kNeverSampled, ControlKind::kMedia},
    {control::kImageClose, "<image|>", ControlRole::kNeverSampled, ControlKind::kMedia},
    {control::kAudioClose, "<audio|>", ControlRole::kNeverSampled, ControlKind::kMedia},
    {control::kVideo, "<|video|>", ControlRole::kNeverSampled, ControlKind::kMedia},
}};

}  // namespace facet
