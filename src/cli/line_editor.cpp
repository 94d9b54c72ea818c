#include "cli/line_editor.h"

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <histedit.h>
#include <langinfo.h>

#include "base/log.h"

namespace facet::cli {
namespace {

constexpr int kHistoryLines = 1000;

unsigned char insert_line_break(EditLine* editor, wint_t /*key*/) {
  el_insertstr(editor, "\n");
  return CC_REDISPLAY;
}

/// libedit reads the terminal's characters through the locale. Models speak UTF-8, so a locale that
/// does not, or is not installed, gives way to C.UTF-8; an empty root has none at all.
void use_utf8() {
  const auto is_utf8 = [](const char* name) {
    return std::setlocale(LC_CTYPE, name) != nullptr &&
           std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  };
  if (is_utf8("") || is_utf8("C.UTF-8")) return;
  print_note(
      "facet: no UTF-8 locale is installed: only ASCII can be typed (text from a pipe is whole)\n");
}

}  // namespace

struct LineEditor::Impl {
  EditLine* editor = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string prompt;
  bool interrupted = false;

  static char* prompt_of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self)->prompt.data();
  }
};

LineEditor::LineEditor() : impl_(std::make_unique<Impl>()) {
  use_utf8();
  impl_->editor = el_init("facet", stdin, stdout, stderr);
  impl_->history = history_init();
  history(impl_->history, &impl_->event, H_SETSIZE, kHistoryLines);
  el_set(impl_->editor, EL_CLIENTDATA, impl_.get());
  el_set(impl_->editor, EL_PROMPT, &Impl::prompt_of);
  el_set(impl_->editor, EL_EDITOR, "emacs");
  el_set(impl_->editor, EL_SIGNAL, 1);
  el_set(impl_->editor, EL_HIST, history, impl_->history);
  // The wide form keeps what it is given; the narrow one makes copies that nobody frees.
  el_wset(impl_->editor, EL_ADDFN, L"facet-line-break", L"Put a line break into the line",
          &insert_line_break);
  for (const char* key : {"\\e\\r", "\\e\\n"})
    el_set(impl_->editor, EL_BIND, key, "facet-line-break", nullptr);
}

LineEditor::~LineEditor() {
  history_end(impl_->history);
  el_end(impl_->editor);
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  impl_->prompt = prompt;
  int length = 0;
  // Ctrl-C must end the line, not the program.
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = [](int) {};
  sigaction(SIGINT, &ignore, &before);
  // Before the prompt, not after it: a key typed in answer to the prompt must never meet the
  // system's own line discipline, which swallows Ctrl-D.
  el_set(impl_->editor, EL_PREP_TERM, 1);
  errno = 0;
  const char* line = el_gets(impl_->editor, &length);
  impl_->interrupted = line == nullptr && errno == EINTR;
  sigaction(SIGINT, &before, nullptr);
  if (impl_->interrupted) {
    std::puts("");
    el_reset(impl_->editor);
    return std::string();
  }
  if (line == nullptr || length <= 0) return std::nullopt;
  std::string text(line, static_cast<size_t>(length));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (!text.empty()) history(impl_->history, &impl_->event, H_ENTER, text.c_str());
  return text;
}

bool LineEditor::interrupted() const { return impl_->interrupted; }

}  // namespace facet::cli
