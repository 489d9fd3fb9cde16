// Lines from a person at a terminal, with editing and a history, or from a pipe. Text is UTF-8 whatever the locale is.
// A terminal that can only go forward (TERM=dumb, or none), and a system without any locale of UTF-8, have the line
// editing of the kernel, and recall nothing.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "cli/terminal/input.h"

namespace tqkv::cli {

class LineEditor {
 public:
  /// At a terminal the history goes on from the file `history` and is kept there (history.h); empty: nowhere.
  explicit LineEditor(std::filesystem::path history = {});

  /// The next line without its end; nothing at the end of the input. What is pasted at once is a line, whose line
  /// breaks are kept. `prompt` is shown on a terminal. Ctrl-C gives up the line: `given_up()` is then true and the line
  /// empty. Throws Error(io) for a pipe that cannot be read.
  std::optional<std::string> next(const std::string& prompt);
  bool given_up() const { return given_up_; }
  bool is_terminal() const { return is_terminal_; }
  /// Makes `text`, of one line or several, the newest entry of the history.
  void remember(const std::string& text);

 private:
  struct Editor;
  std::optional<std::string> plain_line(const std::string& prompt);

  std::filesystem::path history_;
  bool is_terminal_;
  bool given_up_ = false;
  Editor* editor_ = nullptr;      // the only one of the process; null where lines are not edited
  std::string typed_;             // behind the last line, of a terminal without editing
  std::unique_ptr<Lines> lines_;  // of a pipe
};

}  // namespace tqkv::cli
