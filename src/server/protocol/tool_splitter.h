// The text of an answer, told apart while it comes: what is said, and calls of tools.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "server/protocol/answer.h"

namespace tqkv::server {

struct ToolEvent {
  enum class Kind { text, call_begin, call_arguments, call_end };
  Kind kind;
  std::string text;  ///< what is said; the name of the tool; a piece of the arguments' JSON

  bool operator==(const ToolEvent&) const = default;
};

/// Does to a text that comes in pieces what parse_tool_calls (tqkv/chat.h) does to a whole one. However it is cut, the
/// events say the same. Blanks in front of the answer, and those around calls, are left out. Arguments that are
/// strings come as they are written, others when they are whole.
///
/// What is no whole call stays text, as far as it is seen in time: up to the first parameter, or the end of the
/// function, nothing has been said. A call that breaks later, or that the answer's end cuts, stays as it was said: its
/// arguments are no whole JSON, it has no call_end, and the text from the fault on is text. </tool_call> may be
/// missing.
class ToolSplitter {
 public:
  /// `tools`: JSON that the model was given; empty: all is text.
  explicit ToolSplitter(std::string_view tools);

  /// `text`: whole characters.
  std::vector<ToolEvent> feed(std::string_view text);
  /// What was held back, at the end of the answer.
  std::vector<ToolEvent> finish();

  int whole_calls() const { return whole_calls_; }

 private:
  enum class State { text, opening, parameters, value, closing };

  bool step();
  bool step_text();
  bool step_opening();
  bool step_parameters();
  bool step_value();
  bool step_closing();
  void say(std::string_view text);
  void say_value(std::string_view text);
  void put(ToolEvent::Kind kind, std::string_view text);

  bool has_tools_;
  nlohmann::json tools_;
  State state_ = State::text;
  std::string buffer_;  // text that is not decided yet
  std::string blanks_;  // at the end of what was said
  bool said_ = false;
  int calls_ = 0, whole_calls_ = 0;
  std::string function_;
  bool first_parameter_ = true, value_begins_ = false, streams_ = false;
  std::vector<std::string> types_;
  std::string value_;  // of a parameter that is no string
  std::vector<ToolEvent> events_;
};

/// Gives the events of a choice to its answer.
std::string write(AnswerWriter& answer, int choice, const std::vector<ToolEvent>& events);

}  // namespace tqkv::server
