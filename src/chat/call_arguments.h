#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chat/declared_tools.h"

namespace facet {

/// The bracket that opened a call's arguments: "call:f{" or "call:f(".
enum class CallOpener { kBrace, kParenthesis };

/// Turns the arguments of one call, from just behind the opening bracket, into compact JSON while
/// they arrive. Each member appends to `json` what has become certain; joined, that is one object,
/// well-formed once ended(), however the text was split.
///
/// A value or key that begins with '"' is held until it is clear whether another '"' closes it.
/// Its text then counts as bare if none does before the next string delimiter or the call's end,
/// so settle() must be called before either: the call may turn out to have ended within that text.
class CallArguments {
 public:
  /// `tool` (or nullptr) is the declaration of the called function; it must outlive this.
  CallArguments(CallOpener opener, const DeclaredTool* tool, std::string& json);

  /// Reads whole characters until the call ends; returns how many bytes it took.
  size_t push_text(std::string_view text, std::string& json);
  /// Decides about a held '"'; returns the text past the call's end, if it has ended by that.
  std::string settle(std::string& json);
  /// The control token <|"|>. After settle(), not ended.
  void push_delimiter(std::string& json);
  /// The call ends here: closes everything open. After settle(), not ended.
  void close(std::string& json);

  /// Has the bracket that opened the call been closed?
  bool ended() const { return state_ == State::kEnded; }

 private:
  enum class Container { kObject, kList };
  struct Frame {
    Container kind;
    int64_t items;  // written so far
  };
  enum class State {
    kKeyStart,
    kKeyBare,
    kKeyDelimited,  // between two <|"|>
    kKeyDone,       // behind a closed key: all is dropped up to ':'
    kValueStart,
    kValueBare,
    kValueStreamed,  // between two <|"|>; written as it comes
    kValueHeld,      // between two <|"|>; may become another type
    kValueDone,      // behind a closed value: all is dropped up to ',' or a bracket
    kQuoted,         // behind a '"' that may yet prove to be bare text
    kEnded,
  };
  enum class Quoted { kKey, kValue };

  void push_character(std::string_view character, std::string& json);
  void start_key(std::string_view character, std::string& json);
  void start_value(std::string_view character, std::string& json);
  void push_loose(std::string_view character, std::string& json);
  void push_quoted(std::string_view character, std::string& json);
  void push_streamed(std::string_view character, std::string& json);
  void begin_quoted(Quoted what);
  void finish_key(std::string& json);
  void begin_item(std::string& json);
  void write_value(std::string_view value, std::string& json);
  void finish_item(std::string& json);
  void close_container(std::string& json);
  bool closes(char character) const;
  const DeclaredParameter* parameter() const;

  CallOpener opener_;
  const DeclaredTool* tool_;  // owned by the caller

  State state_ = State::kKeyStart;
  std::vector<Frame> frames_{{Container::kObject, 0}};  // outermost first
  std::string token_;                                   // the key or value being read
  std::string brackets_;  // kValueStreamed: a run of '}' and ']' at the string's end so far
  std::string top_key_;   // key of the current top-level pair
  Quoted quoted_ = Quoted::kKey;
  bool escaped_ = false;    // kQuoted: the last character was an escaping backslash
  int64_t groups_ = 0;      // brackets open within bare or dropped text
  bool in_string_ = false;  // between two <|"|> within bare or dropped text
};

}  // namespace facet
