#include "cli/terminal/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/descriptor.h"
#include "base/utf8.h"
#include "cli/terminal/cells.h"
#include "cli/terminal/character_type.h"
#include "cli/terminal/history.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

constexpr std::string_view paste_begins = "\033[?2004h", paste_ends = "\033[?2004l", end_of_paste = "\033[201~";
constexpr wchar_t mark_key = 0x9f;  // stands for a character of no width: no key of a keyboard sends it

bool terminal_can_edit() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

}  // namespace

/// libedit, which reads and writes characters of `cells`.
struct LineEditor::Editor {
  EditLine* line = nullptr;
  HistoryW* history = nullptr;
  Cells cells;
  std::wstring prompt;
  std::string bytes;  // read and not used yet
  wchar_t mark = 0;   // behind mark_key
  bool given_up = false;

  void open(const std::filesystem::path& history_file);
  std::FILE* output();
  bool fill(std::size_t most);
  wchar_t take_character();
  std::string take_paste();

  static Editor& of(EditLine* line) {
    void* self = nullptr;
    el_get(line, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }
  static wchar_t* show_prompt(EditLine* line) { return of(line).prompt.data(); }
  static int read_key(EditLine* line, wchar_t* key);
  static unsigned char give_up(EditLine* line, wint_t);
  static unsigned char join_mark(EditLine* line, wint_t);
  static unsigned char paste(EditLine* line, wint_t);
  static ssize_t write(void* self, const char* data, std::size_t size);
};

/// False at the end of the input.
bool LineEditor::Editor::fill(std::size_t most) {
  char block[4096];
  const ssize_t count = read_some(STDIN_FILENO, block, std::min(most, sizeof block));
  if (count > 0) bytes.append(block, static_cast<std::size_t>(count));
  return count > 0;
}

/// 0 at the end of the input. A byte of 0, which Ctrl-Space sends, is no character.
wchar_t LineEditor::Editor::take_character() {
  do {
    bytes.erase(0, bytes.find_first_not_of('\0'));
    if (bytes.empty() && !fill(1)) return 0;
  } while (bytes.front() == '\0');
  Utf8Step step = next_character(bytes, 0);
  while (step.kind == Utf8Step::Kind::incomplete && fill(1)) step = next_character(bytes, 0);
  bytes.erase(0, step.length);
  const bool valid = step.kind == Utf8Step::Kind::character && (step.code_point < 0x80 || step.code_point >= 0xa0);
  return valid ? static_cast<wchar_t>(step.code_point) : L'\ufffd';
}

int LineEditor::Editor::read_key(EditLine* line, wchar_t* key) {
  Editor& self = of(line);
  *key = self.take_character();
  if (*key == 0) return 0;
  if (Cells::is_mark(*key)) {
    self.mark = *key;
    *key = mark_key;
  } else if (*key >= 0xa0) {
    std::string text;
    append_character(text, static_cast<std::uint32_t>(*key));
    *key = self.cells.encode(text).front();
  }
  return 1;
}

unsigned char LineEditor::Editor::give_up(EditLine* line, wint_t) {
  of(line).given_up = true;
  return CC_NEWLINE;
}

unsigned char LineEditor::Editor::join_mark(EditLine* line, wint_t) {
  Editor& self = of(line);
  const LineInfoW* info = el_wline(line);
  const bool joins = info->cursor > info->buffer && ::wcwidth(info->cursor[-1]) > 0;
  const wchar_t cell[] = {self.cells.joined(joins ? info->cursor[-1] : L'\0', std::wstring_view(&self.mark, 1)), 0};
  if (joins) el_wdeletestr(line, 1);
  return el_winsertstr(line, cell) == 0 ? CC_REFRESH : CC_ERROR;
}

/// Up to the end of what is pasted, line breaks as newlines, without other control characters than tabs. A Ctrl-C that
/// comes alone is typed, where the end was lost on the way.
std::string LineEditor::Editor::take_paste() {
  std::size_t end = 0;
  for (std::size_t from = 0; (end = bytes.find(end_of_paste, from)) == std::string::npos;) {
    from = bytes.size() - std::min(bytes.size(), end_of_paste.size());
    const std::size_t before = bytes.size();
    if (!fill(4096)) break;
    if (std::string_view(bytes).substr(before) == "\x03") break;
  }
  const std::string raw = bytes.substr(0, end);
  bytes.erase(0, end == std::string::npos ? end : end + end_of_paste.size());
  std::string text;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    const auto c = static_cast<unsigned char>(raw[i]);
    if (c == '\r' && i + 1 < raw.size() && raw[i + 1] == '\n') continue;
    if (c == '\r')
      text += '\n';
    else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t')
      text += raw[i];
  }
  return text;
}

unsigned char LineEditor::Editor::paste(EditLine* line, wint_t) {
  Editor& self = of(line);
  const std::wstring text = self.cells.encode(self.take_paste());
  return text.empty() || el_winsertstr(line, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

ssize_t LineEditor::Editor::write(void* self, const char* data, std::size_t size) {
  const std::string text = static_cast<Editor*>(self)->cells.shown({data, size});
  return write_all(STDOUT_FILENO, text) == 0 ? static_cast<ssize_t>(size) : -1;
}

/// A stream to standard output through `cells`.
std::FILE* LineEditor::Editor::output() {
#if defined(__GLIBC__) || defined(__linux__)
  cookie_io_functions_t functions{};
  functions.write = write;
  return ::fopencookie(this, "w", functions);
#else
  return ::funopen(
      this, nullptr,
      [](void* self, const char* data, int size) {
        return static_cast<int>(write(self, data, static_cast<std::size_t>(size)));
      },
      nullptr, nullptr);
#endif
}

void LineEditor::Editor::open(const std::filesystem::path& history_file) {
  std::FILE* out = output();
  line = out ? el_init_fd("tqkv", stdin, out, stderr, STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO) : nullptr;
  history = history_winit();
  if (line == nullptr || history == nullptr)
    throw Error(ErrorKind::memory, "the line editor cannot be started on this terminal: the system gave no memory");
  HistEventW event;
  history_w(history, &event, H_SETSIZE, longest_history);
  history_w(history, &event, H_SETUNIQUE, 1);
  for (const std::string& text : read_history(history_file))
    history_w(history, &event, H_ENTER, cells.encode(text).c_str());
  el_set(line, EL_CLIENTDATA, this);
  el_wset(line, EL_GETCFN, &read_key);
  el_wset(line, EL_PROMPT, &show_prompt);
  el_wset(line, EL_EDITOR, L"emacs");
  el_wset(line, EL_HIST, ::history_w, history);
  el_wset(line, EL_ADDFN, L"give-up-line", L"Gives up the line", &give_up);
  el_wset(line, EL_ADDFN, L"join-mark", L"Puts a mark on the character before it", &join_mark);
  el_wset(line, EL_ADDFN, L"paste-text", L"Inserts what the terminal pastes", &paste);
  el_source(line, nullptr);  // ~/.editrc
  // While a line is edited, Ctrl-C is a key like others; while an answer comes, it is a signal.
  el_wset(line, EL_SETTY, L"-d", L"-isig", nullptr);
  el_wset(line, EL_BIND, L"^C", L"give-up-line", nullptr);
  el_wset(line, EL_BIND, L"\\237", L"join-mark", nullptr);
  el_wset(line, EL_BIND, L"\\e[200~", L"paste-text", nullptr);
}

LineEditor::LineEditor(std::filesystem::path history_file)
    : history_(std::move(history_file)), is_terminal_(::isatty(STDIN_FILENO) == 1) {
  if (!is_terminal_) {
    lines_ = std::make_unique<Lines>("-");
    return;
  }
  if (!terminal_can_edit() || utf8_character_type() == nullptr) return;
  // libedit never frees the names of added functions, so that an editor is made once and kept. Between lines it leaves
  // the terminal as it was.
  static Editor editor;
  editor_ = &editor;
  if (editor.line != nullptr) return;
  const WithCharacterType utf8(utf8_character_type());
  editor.open(history_);
}

/// A line as the kernel edits it.
std::optional<std::string> LineEditor::plain_line(const std::string& prompt) {
  take_interrupt();  // one that came before the prompt was meant for the answer
  output_is_terminal() ? print(prompt) : print_error(prompt);
  while (true) {
    if (const std::size_t end = typed_.find('\n'); end != std::string::npos) {
      std::string line = typed_.substr(0, end);
      typed_.erase(0, end + 1);
      return line;
    }
    // Looked at ten times a second: the signal may come before the wait, or to another thread.
    pollfd ready{STDIN_FILENO, POLLIN, 0};
    const int count = ::poll(&ready, 1, 100);
    if (take_interrupt()) {  // Ctrl-C, and the kernel has dropped what was typed
      typed_.clear();
      given_up_ = true;
      output_is_terminal() ? print("\n") : print_error("\n");
      return "";
    }
    if (count <= 0) continue;
    char block[4096];
    const ssize_t got = read_some(STDIN_FILENO, block, sizeof block);
    if (got <= 0) return typed_.empty() ? std::nullopt : std::optional(std::exchange(typed_, ""));
    typed_.append(block, static_cast<std::size_t>(got));
  }
}

std::optional<std::string> LineEditor::next(const std::string& prompt) {
  given_up_ = false;
  std::string line;
  if (lines_) {
    if (!lines_->next(line)) return std::nullopt;
    return valid_text(std::move(line), lines_->name(), lines_->number());
  }
  if (!editor_) return plain_line(prompt);
  const WithCharacterType utf8(utf8_character_type());
  editor_->prompt = editor_->cells.encode(prompt);
  editor_->given_up = false;
  el_resize(editor_->line);
  set_terminal_reset(paste_ends.data());
  write_all(STDOUT_FILENO, paste_begins);
  int length = 0;
  const wchar_t* text = el_wgets(editor_->line, &length);
  write_all(STDOUT_FILENO, paste_ends);
  set_terminal_reset(nullptr);
  given_up_ = editor_->given_up;
  if (given_up_) {
    print("\n");
    return line;
  }
  if (text == nullptr || length <= 0) return std::nullopt;
  line = editor_->cells.decode({text, static_cast<std::size_t>(length)});
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  return line;
}

void LineEditor::remember(const std::string& text) {
  if (!is_terminal_) return;
  append_history(history_, text);
  if (!editor_) return;
  const WithCharacterType utf8(utf8_character_type());
  HistEventW event;
  history_w(editor_->history, &event, H_ENTER, editor_->cells.encode(text).c_str());
}

}  // namespace tqkv::cli
