#include "cli/terminal_chat.h"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fmt/core.h>
#include <iostream>
#include <iterator>
#include <optional>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/partial_file.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/line_editor.h"
#include "cli/message_lines.h"

namespace facet::cli {
namespace {

constexpr int64_t kMostChatBytes = 64 << 20;

/// Set by Ctrl-C while an answer streams; a signal handler can reach nothing but a global.
std::atomic<bool> interrupted{false};

/// Ctrl-C stops the answer, not the program, while one of these lives.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupted.store(false);
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted.store(true); };
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_ {};
};

constexpr const char* kHelp =
    "Enter sends, Alt-Enter starts a new line; \"\"\" begins and ends several lines,\n"
    "anywhere on a line. Ctrl-C stops the answer, Ctrl-D leaves.\n"
    "  /clear             forget the conversation\n"
    "  /system TEXT       set the system message (without TEXT: remove it)\n"
    "  /think on|off      let the model think first\n"
    "  /set NAME VALUE    temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty,\n"
    "                     frequency_penalty, seed, max_tokens\n"
    "  /show              show the settings\n"
    "  /save FILE         write the conversation as JSON\n"
    "  /load FILE         read one back\n"
    "  /image FILE        add an image to the next message (not supported yet)\n"
    "  /stats on|off      print the rate after each answer\n"
    "  /help, /bye\n";

void show(Conversation& chat) {
  const SamplingParams& p = chat.sampling();
  fmt::print(
      "temperature {}  top_k {}  top_p {}  min_p {}  repetition_penalty {}  presence_penalty {}  "
      "frequency_penalty {}  seed {}  max_tokens {}\n",
      p.temperature, p.top_k, p.top_p, p.min_p, p.repetition_penalty, p.presence_penalty,
      p.frequency_penalty, static_cast<int64_t>(p.seed), chat.max_tokens());
  fmt::print("thinking {}  system {}\n", chat.thinking() ? "on" : "off",
             chat.system().empty() ? "(none)" : chat.system());
}

bool on_or_off(std::string_view text) {
  if (text != "on" && text != "off") throw Error(ErrorCode::kUsage, "wanted on or off");
  return text == "on";
}

void save(const Conversation& chat, const std::string& path) {
  write_file(path, chat.to_json() + '\n');
}

enum class Next { kGoOn, kLeave };

/// What /stats on shows is what the command line chose.
struct StatsSwitch {
  Stats chosen;
  bool on = true;
  Stats now() const { return on ? chosen : Stats::kOff; }
};

Next command(Conversation& chat, std::string_view line, StatsSwitch& stats) {
  const size_t blank = std::min(line.find(' '), line.size());
  const std::string_view name = line.substr(0, blank);
  const std::string_view rest = line.substr(std::min(blank + 1, line.size()));
  if (name == "/bye") return Next::kLeave;
  if (name == "/help") {
    fmt::print("{}", kHelp);
  } else if (name == "/clear") {
    chat.clear();
  } else if (name == "/system") {
    chat.set_system(std::string(rest));
  } else if (name == "/think") {
    chat.set_thinking(on_or_off(rest));
  } else if (name == "/stats") {
    stats.on = on_or_off(rest);
  } else if (name == "/set") {
    const size_t split = std::min(rest.find(' '), rest.size());
    chat.set(rest.substr(0, split), rest.substr(std::min(split + 1, rest.size())));
  } else if (name == "/show") {
    show(chat);
  } else if (name == "/save") {
    save(chat, std::string(rest));
  } else if (name == "/load") {
    chat.from_json(read_file(std::string(rest), kMostChatBytes));
  } else if (name == "/image") {
    throw Error(ErrorCode::kUsage, "images are not supported yet");
  } else {
    throw Error(ErrorCode::kUsage, fmt::format("no command '{}': see /help", printable(name, 40)));
  }
  return Next::kGoOn;
}

/// One message; nullopt at the end of input. An empty one where it was given up with Ctrl-C.
std::optional<MessageLines> read_message(LineEditor& editor) {
  MessageLines message;
  for (const char* prompt = ">>> ";; prompt = "... ") {
    const std::optional<std::string> line = editor.read(prompt);
    if (!line) return std::nullopt;
    if (editor.interrupted()) return MessageLines();
    if (message.add(*line)) return message;
  }
}

void answer(Conversation& chat, const std::string& text, double load_s, Stats stats) {
  const InterruptGuard guard;
  ThoughtStyle style(isatty(STDOUT_FILENO) == 1);
  const Answer result = chat.ask(
      text, [&](OutputEvent::Kind kind, std::string_view piece) { style.print(kind, piece); },
      [] { return !interrupted.load(); });
  style.end();
  fmt::print("\n");
  if (result.times.generated_tokens == 0) {
    print_note("stopped before the answer began: what you wrote is forgotten\n");
    return;
  }
  print_stats(result, load_s, stats);
}

}  // namespace

void ThoughtStyle::print(OutputEvent::Kind kind, std::string_view text) {
  const bool thought = kind == OutputEvent::Kind::kThought;
  if (thought != in_thought_) {
    if (colours_) fmt::print("{}", thought ? "\x1b[2m" : "\x1b[0m");
    if (in_thought_) fmt::print("\n\n");
    in_thought_ = thought;
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void ThoughtStyle::end() {
  if (in_thought_ && colours_) fmt::print("\x1b[0m");
  in_thought_ = false;
}

void print_stats(const Answer& answer, double load_s, Stats stats) {
  const GenerationTimes& t = answer.times;
  if (stats == Stats::kAll) {
    print_note(
        "load {:.2f} s; prompt {} tokens, {} of them cached, {:.1f} tok/s, first token after "
        "{:.3f} s; no drafts; ",
        load_s, t.prompt_tokens, t.cached_tokens, t.prompt_rate(), t.prompt_s);
  }
  if (stats != Stats::kOff) {
    const char* cut =
        answer.finish_reason == "length" ? ", cut off by --max-tokens or --context" : "";
    print_note("{} tokens, {:.1f} tok/s{}", t.generated_tokens, t.decode_rate(), cut);
    if (stats == Stats::kAll) {
      print_note("; peak memory {}", human_bytes(peak_resident_bytes()));
    }
    print_note("\n");
  }
}

std::string given_prompt(std::string prompt) {
  if (prompt.empty() && isatty(STDIN_FILENO) != 1) {
    prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (prompt.empty()) throw Error(ErrorCode::kBadInput, "the prompt is empty");
  }
  return prompt;
}

void answer_once(Conversation& chat, const std::string& prompt, double load_s, Stats stats) {
  ThoughtStyle style(isatty(STDOUT_FILENO) == 1);
  const Answer answer = chat.ask(
      prompt, [&](OutputEvent::Kind kind, std::string_view text) { style.print(kind, text); }, {});
  style.end();
  fmt::print("\n");
  std::fflush(stdout);
  print_stats(answer, load_s, stats);
}

void terminal_chat(Conversation& chat, double load_s, Stats stats) {
  print_note("/help lists keys and commands, Ctrl-D leaves.\n");
  LineEditor editor;
  StatsSwitch shown{stats};
  while (const std::optional<MessageLines> message = read_message(editor)) {
    const std::string& text = message->text();
    if (text.empty()) continue;
    try {
      if (message->is_command()) {
        if (command(chat, text, shown) == Next::kLeave) return;
      } else {
        answer(chat, text, load_s, shown.now());
      }
    } catch (const Error& error) {
      print_note("{}\n", error.what());
    }
  }
  fmt::print("\n");
}

}  // namespace facet::cli
