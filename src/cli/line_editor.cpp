#include "line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <utility>

#include "history.h"
#include "output.h"
#include "tqkv/error.h"

namespace tqkv::cli {

struct LineEditor::Terminal {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string prompt;
  bool given_up = false;

  static Terminal& of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Terminal*>(self);
  }
  static char* show_prompt(EditLine* editor) { return of(editor).prompt.data(); }
  static unsigned char give_up(EditLine* editor, int) {
    of(editor).given_up = true;
    return CC_NEWLINE;
  }
};

LineEditor::LineEditor(std::filesystem::path history_file) : history_(std::move(history_file)) {
  if (isatty(STDIN_FILENO) == 0) return;
  // libedit never frees the names of added functions, so that an editor is made once and kept. Between lines it leaves
  // the terminal as it was.
  static Terminal terminal;
  terminal_ = &terminal;
  if (terminal.editor != nullptr) return;
  terminal.editor = el_init("tqkv", stdin, stdout, stderr);
  terminal.history = history_init();
  if (terminal.editor == nullptr || terminal.history == nullptr)
    throw Error(ErrorKind::internal, "the line editor cannot be started on this terminal");
  HistEvent event;
  history(terminal.history, &event, H_SETSIZE, longest_history);
  history(terminal.history, &event, H_SETUNIQUE, 1);
  for (const std::string& text : read_history(history_)) history(terminal.history, &event, H_ENTER, text.c_str());
  EditLine* editor = terminal.editor;
  el_set(editor, EL_CLIENTDATA, &terminal);
  el_set(editor, EL_PROMPT, &Terminal::show_prompt);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, ::history, terminal.history);
  el_set(editor, EL_ADDFN, "give-up-line", "Gives up the line", &Terminal::give_up);
  el_source(editor, nullptr);  // ~/.editrc
  // While a line is edited, Ctrl-C is a key like others; while an answer comes, it is a signal.
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor, EL_BIND, "^C", "give-up-line", nullptr);
}

std::optional<std::string> LineEditor::next(const std::string& prompt) {
  std::string line;
  if (!terminal_) {
    if (!std::getline(std::cin, line)) return std::nullopt;
    if (line.ends_with('\r')) line.pop_back();
    return line;
  }
  terminal_->prompt = prompt;
  terminal_->given_up = false;
  int length = 0;
  const char* text = el_gets(terminal_->editor, &length);
  if (terminal_->given_up) {
    print("\n");
    return line;
  }
  if (text == nullptr || length <= 0) return std::nullopt;
  line.assign(text, static_cast<std::size_t>(length));
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  return line;
}

bool LineEditor::given_up() const {
  return terminal_ && terminal_->given_up;
}

void LineEditor::remember(const std::string& text) {
  if (!terminal_) return;
  HistEvent event;
  history(terminal_->history, &event, H_ENTER, text.c_str());
  append_history(history_, text);
}

}  // namespace tqkv::cli
