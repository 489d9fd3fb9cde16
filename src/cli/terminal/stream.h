// The text of an answer as it comes.
#pragma once
#include <string_view>

#include "cli/terminal/output.h"
#include "tqkv/generate.h"

namespace tqkv::cli {

/// Writes the answer to standard output and thinking to standard error, dim on a terminal, or not at all.
class Stream {
 public:
  explicit Stream(bool show_thinking = true) : show_thinking_(show_thinking) {}
  void operator()(Part part, std::string_view text) {
    if (part == Part::thinking) {
      if (!show_thinking_) return;
      if (!thinking_) set_style(Style::dim);
      thinking_ = true;
      print_error(text);
      return;
    }
    end_thinking();
    print(text);
    ends_line_ = text.back() == '\n';
  }
  void finish() {
    end_thinking();
    if (!ends_line_) print("\n");
  }
  void end_thinking() {
    if (!thinking_) return;
    set_style(Style::plain);
    print_error("\n\n");
    thinking_ = false;
  }

 private:
  bool show_thinking_;
  bool thinking_ = false;
  bool ends_line_ = true;
};

}  // namespace tqkv::cli
