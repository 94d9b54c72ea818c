#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chat/call_tool.h"

namespace facet {

/// Where one call stands in the grammar for constrained calls (server-api 14), from behind
/// <|tool_call> on:
///
///   call:NAME{ [key:value {,key:value}] }   value = <|"|>text<|"|> | number | word | [..] | {..}
///
/// No blanks, numbers of at most 20 digits before and behind the point and an exponent of two, no
/// key twice in an object, names as declared, arguments as CallTool says. Whatever
/// can_take() allows can be completed: there is no dead end. Copyable, so that a token can be
/// tried.
class CallGrammar {
 public:
  /// `tools` must outlive this; at least one.
  explicit CallGrammar(const std::vector<CallTool>& tools) : tools_(&tools) {}

  /// Reads bytes of ordinary text. False if the grammar does not allow them; then this is of no
  /// further use.
  [[nodiscard]] bool take(std::string_view bytes);
  /// Reads <|"|>.
  [[nodiscard]] bool take_delimiter();

  bool can_take(std::string_view bytes) const { return CallGrammar(*this).take(bytes); }
  bool can_take_delimiter() const { return CallGrammar(*this).take_delimiter(); }

  /// What the next bytes can be, for whoever looks for tokens: see CallGuide.
  enum class Expects {
    kBytes,    ///< the few that next_bytes() lists come first
    kKey,      ///< a free key has begun or begins: key bytes, ':' behind them, or next_bytes()
    kAnyText,  ///< within a free string: anything, or <|"|>
    kEnd,      ///< the call is complete: <tool_call|>
  };
  Expects expects() const;
  /// The bytes that can come next, other than those of a free key or string.
  std::string next_bytes() const;

 private:
  enum class Step {
    kHead,    // "call:NAME{"; text_ is what has been read
    kKey,     // text_ is the key so far; '}' may come instead in an empty object
    kValue,   // ']' may come instead in an empty list
    kText,    // between two <|"|>; text_ is what has been read if choices bind it
    kScalar,  // a number, word or choice without <|"|>; text_ is what has been read
    kNext,    // behind a value
    kEnd,
  };
  struct Frame {
    bool is_list = false;
    std::vector<std::string> keys;  // of an object, so far; of a list, nothing
    bool is_empty = true;
  };

  bool take(char byte);
  bool take_head(char byte);
  bool take_key(char byte);
  bool take_value(char byte);
  bool take_scalar(char byte);
  bool take_next(char byte);
  bool close(char byte);
  bool open(char byte);
  bool head_fits() const;
  bool key_fits() const;
  bool is_bound() const;  // at the top level of a tool with parameters
  bool is_used(const std::string& key) const;
  bool has_unused_key() const;
  bool lacks_required() const;
  bool scalar_may_go_on() const;
  bool scalar_is_whole() const;
  bool value_allows(std::string_view type) const;

  const std::vector<CallTool>* tools_;
  const CallTool* tool_ = nullptr;            // once the head is read
  const CallParameter* parameter_ = nullptr;  // of the top-level value being read, if bound
  Step step_ = Step::kHead;
  std::string text_;
  std::vector<Frame> frames_;  // outermost first
};

}  // namespace facet
