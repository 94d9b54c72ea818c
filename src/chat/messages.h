#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "chat/value.h"

namespace facet {

enum class MessageRole { kSystem, kDeveloper, kUser, kAssistant, kTool };

/// One part of a content: text, or one image, audio or video.
struct ContentPart {
  std::optional<TokenId> media;  ///< control::kImage, kAudio or kVideo
  std::string_view text;
};

enum class ContentForm { kNull, kString, kParts };

struct ToolCall {
  std::string_view id;  ///< empty if missing
  std::string_view name;
  Value arguments;  ///< an object
};

/// One message of a request, checked. Texts lie in the Value it was read from.
struct ChatMessage {
  MessageRole role = MessageRole::kUser;
  ContentForm form = ContentForm::kNull;
  std::vector<ContentPart> parts;  ///< a string is one part
  // Of an assistant:
  std::string_view thought;
  std::vector<ToolCall> calls;
  // Of a tool:
  std::string_view call_id;  ///< empty if missing
  std::string_view name;     ///< empty if missing
};

/// What is wrong with messages.
enum class MessageFault {
  kMissing,    ///< a field is not there
  kType,       ///< a field is of another type
  kValue,      ///< a field says what means nothing
  kArguments,  ///< the arguments of a call are not those of one
};

/// Messages that cannot be read. place() is the path of the field ("messages[2].content").
class MessageError : public Error {
 public:
  MessageError(MessageFault fault, std::string message, std::string place)
      : Error(ErrorCode::kBadInput, std::move(message), std::move(place)), fault_(fault) {}
  MessageFault fault() const { return fault_; }

 private:
  MessageFault fault_;
};

/// Reads the `messages` of a request: role `function` becomes a tool, arguments given as JSON text
/// are decoded, parts of type `refusal` are dropped. Throws MessageError for an unknown role, a
/// missing field or one of a wrong type, an unknown part, and a tool message that follows no calls.
std::vector<ChatMessage> read_messages(const Value& messages);

}  // namespace facet
