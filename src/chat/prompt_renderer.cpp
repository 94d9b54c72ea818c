#include "chat/prompt_renderer.h"

#include <fmt/core.h>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "chat/messages.h"
#include "chat/tool_declaration.h"
#include "chat/whitespace.h"
#include "tokenizer/control_tokens.h"

namespace facet {
namespace {

std::string_view turn_name(MessageRole role) {
  switch (role) {
    case MessageRole::kSystem:
      return "system";
    case MessageRole::kDeveloper:
      return "developer";
    case MessageRole::kUser:
      return "user";
    case MessageRole::kAssistant:
      return "model";
    case MessageRole::kTool:
      return "tool";
  }
  return {};
}

bool opens_system_turn(const ChatMessage& message) {
  return message.role == MessageRole::kSystem || message.role == MessageRole::kDeveloper;
}

/// An answer's text without thoughts that it spells out: of each piece between `<channel|>` only
/// what stands before a `<|channel>`.
std::string without_thoughts(std::string_view text) {
  constexpr std::string_view kOpen = "<|channel>";
  constexpr std::string_view kClose = "<channel|>";
  std::string out;
  while (true) {
    const size_t end = text.find(kClose);
    const std::string_view piece = text.substr(0, end);
    out += piece.substr(0, piece.find(kOpen));
    if (end == std::string_view::npos) return out;
    text.remove_prefix(end + kClose.size());
  }
}

/// Is the end of the last part's text kept?
enum class TextEnd { kTrimmed, kKept };

/// What the last message that is not a tool's left behind.
struct Ending {
  enum class Kind { kTurn, kCalls, kResults };
  Kind kind = Kind::kTurn;  // a turn without calls, calls without results, or results
  bool turn_ended = false;
};

class Renderer {
 public:
  Renderer(std::span<const ChatMessage> messages, const RenderOptions& options)
      : messages_(messages),
        options_(options),
        july_(options.generation == TemplateGeneration::kJuly2026),
        null_word_(july_ ? "null" : "None") {}

  std::vector<PromptItem> run(const Value* tools);

 private:
  void system_turn(const Value* tools);
  void message(size_t i);
  bool thought_is_shown(size_t i) const;
  void calls(const ChatMessage& message);
  /// The results that follow message i; their number.
  size_t results(size_t i);
  void result(const ChatMessage& message, std::string_view name);
  /// Is there anything besides white space?
  bool content(const ChatMessage& message, TextEnd end);
  void turn_end(const ChatMessage& message, const ChatMessage* next, bool has_results, bool filled);
  void generation_prompt();

  std::span<const ChatMessage> messages_;  // without the one that became the system turn
  const RenderOptions& options_;
  const bool july_;
  const std::string_view null_word_;
  std::ptrdiff_t last_user_ = -1;
  const ChatMessage* previous_ = nullptr;  // the last that was not a tool's
  Ending ending_;
  PromptWriter out_;
};

std::vector<PromptItem> Renderer::run(const Value* tools) {
  out_.control(control::kBos);
  const bool has_system = !messages_.empty() && opens_system_turn(messages_.front());
  if (options_.enable_thinking || tools != nullptr || has_system) system_turn(tools);
  if (has_system) messages_ = messages_.subspan(1);
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (messages_[i].role == MessageRole::kUser) last_user_ = static_cast<std::ptrdiff_t>(i);
  }
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (messages_[i].role == MessageRole::kTool) continue;
    message(i);
    previous_ = &messages_[i];
  }
  if (options_.add_generation_prompt && !options_.continue_final_message) generation_prompt();
  return out_.release();
}

void Renderer::system_turn(const Value* tools) {
  out_.control(control::kTurnOpen);
  out_.text("system\n");
  if (options_.enable_thinking) {
    out_.control(control::kThink);
    out_.text("\n");
  }
  if (!messages_.empty() && opens_system_turn(messages_.front())) {
    const ChatMessage& first = messages_.front();
    for (const ContentPart& part : first.parts) {
      out_.text(without_outer_whitespace(part.text));
      if (first.form == ContentForm::kParts) out_.text(" ");
    }
  }
  if (tools != nullptr) {
    size_t index = 0;
    for (const Value& tool : tools->array()) {
      out_.control(control::kToolOpen);
      in_place(fmt::format("tools[{}]", index++),
               [&] { write_declaration(out_, tool, null_word_); });
      out_.control(control::kToolClose);
    }
  }
  out_.control(control::kTurnClose);
  out_.text("\n");
}

void Renderer::message(size_t i) {
  const ChatMessage& message = messages_[i];
  const bool same_turn = message.role == MessageRole::kAssistant && previous_ != nullptr &&
                         previous_->role == MessageRole::kAssistant;
  if (!same_turn) {
    out_.control(control::kTurnOpen);
    out_.text(turn_name(message.role));
    out_.text("\n");
  }
  if (thought_is_shown(i)) {
    out_.control(control::kChannelOpen);
    out_.text("thought\n");
    out_.text(message.thought);
    out_.text("\n");
    out_.control(control::kChannelClose);
  }
  if (options_.continue_final_message && i + 1 == messages_.size()) {
    content(message, TextEnd::kKept);
    return;
  }
  calls(message);
  const size_t result_count = results(i);
  const bool filled = content(message, TextEnd::kTrimmed);
  const size_t after = i + 1 + result_count;
  turn_end(message, after < messages_.size() ? &messages_[after] : nullptr, result_count > 0,
           filled);
}

bool Renderer::thought_is_shown(size_t i) const {
  const ChatMessage& message = messages_[i];
  if (message.thought.empty()) return false;
  const bool current = static_cast<std::ptrdiff_t>(i) > last_user_;
  const bool has_calls = !message.calls.empty();
  return july_ ? current || (options_.preserve_thinking && has_calls) : current && has_calls;
}

void Renderer::calls(const ChatMessage& message) {
  for (const ToolCall& call : message.calls) {
    out_.control(control::kToolCallOpen);
    out_.text("call:");
    out_.text(call.name);
    write_value(out_, call.arguments, KeyStyle::kBare, null_word_);
    out_.control(control::kToolCallClose);
  }
}

size_t Renderer::results(size_t i) {
  const std::vector<ToolCall>& calls = messages_[i].calls;
  size_t count = 0;
  while (i + 1 + count < messages_.size() && messages_[i + 1 + count].role == MessageRole::kTool)
    ++count;
  const std::span<const ChatMessage> results = messages_.subspan(i + 1, count);
  bool ids_missing = false;
  for (const ToolCall& call : calls) ids_missing = ids_missing || call.id.empty();
  for (const ChatMessage& message : results) ids_missing = ids_missing || message.call_id.empty();

  for (size_t k = 0; k < count; ++k) {
    std::string_view name = results[k].name.empty() ? "unknown" : results[k].name;
    if (ids_missing) {
      if (k < calls.size()) name = calls[k].name;
    } else {
      for (const ToolCall& call : calls) {
        if (call.id == results[k].call_id) name = call.name;
      }
    }
    result(results[k], name);
  }
  return count;
}

void Renderer::result(const ChatMessage& message, std::string_view name) {
  out_.control(control::kToolResponseOpen);
  out_.text("response:");
  out_.text(name);
  out_.text("{value:");
  if (message.form == ContentForm::kNull) {
    out_.text(null_word_);
  } else {
    std::string text;
    for (const ContentPart& part : message.parts) text += part.text;
    out_.quoted(text);
  }
  out_.text("}");
  out_.control(control::kToolResponseClose);
  for (const ContentPart& part : message.parts) {
    if (part.media) out_.control(*part.media);
  }
}

bool Renderer::content(const ChatMessage& message, TextEnd end) {
  bool filled = false;
  for (const ContentPart& part : message.parts) {
    if (part.media) {
      out_.control(*part.media);
      filled = true;
      continue;
    }
    std::string text(part.text);
    if (message.role == MessageRole::kAssistant) text = without_thoughts(part.text);
    const bool keep = end == TextEnd::kKept && &part == &message.parts.back();
    const std::string_view trimmed =
        keep ? without_leading_whitespace(text) : without_outer_whitespace(text);
    out_.text(trimmed);
    filled = filled || !trimmed.empty();
  }
  return filled;
}

void Renderer::turn_end(const ChatMessage& message,
                        const ChatMessage* next,
                        bool has_results,
                        bool filled) {
  ending_ = {};
  if (has_results) ending_.kind = Ending::Kind::kResults;
  if (!message.calls.empty() && !has_results) {
    ending_.kind = Ending::Kind::kCalls;
    out_.control(control::kToolResponseOpen);
    return;
  }
  if (july_) {
    const bool goes_on = message.role == MessageRole::kAssistant && next != nullptr &&
                         next->role == MessageRole::kAssistant;
    if (goes_on || (has_results && !filled && next == nullptr)) return;
  } else {
    // Here white space alone is content.
    const bool absent = message.form == ContentForm::kString ? message.parts.front().text.empty()
                                                             : message.parts.empty();
    if (has_results && absent) return;
  }
  out_.control(control::kTurnClose);
  out_.text("\n");
  ending_.turn_ended = true;
}

void Renderer::generation_prompt() {
  if (ending_.kind == Ending::Kind::kCalls) return;
  if (ending_.kind == Ending::Kind::kResults) {
    if (!july_) return;
    if (options_.template_exact || !ending_.turn_ended) {
      if (!options_.enable_thinking) return;
      out_.control(control::kChannelOpen);
      out_.text("thought\n");
      return;
    }
  }
  out_.control(control::kTurnOpen);
  out_.text("model\n");
  if (options_.enable_thinking || !options_.empty_thought) return;
  out_.control(control::kChannelOpen);
  out_.text("thought\n");
  out_.control(control::kChannelClose);
}

void check_continuation(std::span<const ChatMessage> messages) {
  const auto fail = [](const std::string& message) {
    throw Error(ErrorCode::kBadInput, message, "continue_final_message");
  };
  if (messages.empty()) fail("there is no message");
  const std::string place = fmt::format("messages[{}]", messages.size() - 1);
  const ChatMessage& last = messages.back();
  if (last.role != MessageRole::kAssistant) fail(place + " must be an assistant's");
  if (!last.calls.empty()) fail(place + " has tool_calls and cannot be continued");
}

}  // namespace

std::vector<PromptItem> render(const Value& messages,
                               const Value* tools,
                               const RenderOptions& options) {
  const std::vector<ChatMessage> read = read_messages(messages);
  if (options.continue_final_message) check_continuation(read);
  if (tools != nullptr && !tools->is_null() && !tools->is_array()) {
    throw Error(ErrorCode::kBadInput,
                fmt::format("tools: found {}, wanted an array", kind_name(*tools)));
  }
  const bool has_tools = tools != nullptr && tools->is_array() && !tools->array().empty();
  return Renderer(read, options).run(has_tools ? tools : nullptr);
}

TemplateChoice choose_template(TemplateOption option,
                               std::optional<std::string_view> chat_template) {
  if (option == TemplateOption::kApril2026) return {TemplateGeneration::kApril2026, false};
  const bool unknown = option == TemplateOption::kAuto && chat_template &&
                       chat_template->find("Published: 2026-07-09") == std::string_view::npos;
  return {TemplateGeneration::kJuly2026, unknown};
}

}  // namespace facet
