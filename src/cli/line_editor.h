// Lines from a person at a terminal, with editing and a history, or from a pipe.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

namespace tqkv::cli {

class LineEditor {
 public:
  /// At a terminal the history goes on from the file `history` and is kept there (history.h); empty: nowhere.
  explicit LineEditor(std::filesystem::path history = {});

  /// The next line without its end; nothing at the end of the input. `prompt` is shown on a terminal. Ctrl-C gives up
  /// the line: `given_up()` is then true and the line empty.
  std::optional<std::string> next(const std::string& prompt);
  bool given_up() const;
  bool is_terminal() const { return terminal_ != nullptr; }
  /// Makes `text`, of one line or several, the newest entry of the history.
  void remember(const std::string& text);

 private:
  struct Terminal;
  std::filesystem::path history_;
  Terminal* terminal_ = nullptr;  // the only one of the process; null for a pipe
};

}  // namespace tqkv::cli
