#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "chat/call_grammar.h"
#include "chat/call_tool.h"
#include "chat/token_table.h"

namespace facet {

struct CallGuideOptions {
  std::vector<CallTool> tools;            ///< that may be called; empty: calls are not guided
  bool required = false;                  ///< a call must come first, behind a thought at most
  bool single_call = false;               ///< the answer ends behind the first call
  bool thinking = false;                  ///< thinking is on: a thought may come first
  bool open_thought = false;              ///< the prompt ended in an open channel
  std::optional<int32_t> thought_budget;  ///< most tokens of a thought; the channel is closed then
};

/// Says at each position of one answer which tokens the model may write, as far as the request
/// limits that (server-api 5.4, 5.6): calls keep to their grammar once <|tool_call> is there, a
/// call that must come comes, a thought that is long enough ends.
class CallGuide {
 public:
  /// What the next token may be.
  struct Rule {
    enum class Kind { kAny, kForced, kOnly };
    Kind kind = Kind::kAny;
    TokenId forced{-1};              ///< kForced
    std::span<const uint64_t> only;  ///< kOnly: one bit for each id; valid until the next call
  };

  /// `table` must outlive this.
  CallGuide(const TokenTable& table, CallGuideOptions options);

  /// Asked once before each token.
  Rule next();
  /// The token that was taken, whatever next() said.
  void accept(TokenId id);

 private:
  enum class State { kStart, kChannelName, kThought, kContent, kMustCall, kCall, kAfterCall, kEnd };

  Rule only(std::initializer_list<TokenId> ids);
  Rule within_thought();
  Rule within_call();
  void accept_at_start(TokenId id);
  void accept_in_prose(TokenId id);
  void accept_in_call(TokenId id);
  void open_call();

  const TokenTable& table_;
  const CallGuideOptions options_;
  State state_ = State::kStart;
  std::string start_;  // text at the very start that may become "thought\n"
  int32_t thought_tokens_ = 0;
  bool closing_ = false;  // the budget's line feed is there
  std::optional<CallGrammar> call_;
  TokenSet set_;
};

}  // namespace facet
