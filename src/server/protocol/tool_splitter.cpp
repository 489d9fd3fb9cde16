#include "server/protocol/tool_splitter.h"

#include <algorithm>

#include "text/tool_values.h"

namespace tqkv::server {
namespace {

constexpr std::string_view blanks = " \t\r\n";
constexpr std::string_view call_opening = "<tool_call>", call_closing = "</tool_call>";
constexpr std::string_view function_opening = "<function=", function_closing = "</function>";
constexpr std::string_view parameter_opening = "<parameter=", parameter_closing = "</parameter>";

enum class Match { yes, no, open };  // open: more text decides

/// Whether `text` begins with `tag`.
Match begins(std::string_view text, std::string_view tag) {
  if (text.starts_with(tag)) return Match::yes;
  return tag.starts_with(text) ? Match::open : Match::no;
}

Match begins_either(std::string_view text, std::string_view one, std::string_view other) {
  const Match first = begins(text, one), second = begins(text, other);
  if (first == Match::yes || second == Match::yes) return Match::yes;
  return first == Match::open || second == Match::open ? Match::open : Match::no;
}

std::size_t past_blanks(std::string_view text, std::size_t from) {
  return std::min(text.find_first_not_of(blanks, from), text.size());
}

/// Where the longest end of `text` begins that is a beginning of `tag`.
std::size_t tail(std::string_view text, std::string_view tag) {
  for (std::size_t at = text.size() - std::min(text.size(), tag.size() - 1); at < text.size(); ++at)
    if (tag.starts_with(text.substr(at))) return at;
  return text.size();
}

/// The name in front of the next '>', at `from`.
Match name_at(std::string_view text, std::size_t from, std::string_view& name) {
  const std::size_t end = text.find_first_of(">\r\n<", from);
  if (end == std::string_view::npos) return Match::open;
  name = text.substr(from, end - from);
  return text[end] == '>' && !name.empty() ? Match::yes : Match::no;
}

}  // namespace

ToolSplitter::ToolSplitter(std::string_view tools)
    : has_tools_(!tools.empty()), tools_(nlohmann::json::parse(tools, nullptr, false)) {}

std::vector<ToolEvent> ToolSplitter::feed(std::string_view text) {
  if (!has_tools_) {
    put(ToolEvent::Kind::text, text);
  } else {
    buffer_ += text;
    while (step()) {
    }
  }
  return std::exchange(events_, {});
}

std::vector<ToolEvent> ToolSplitter::finish() {
  if (state_ == State::text || state_ == State::opening) say(buffer_);
  if (calls_ == 0) put(ToolEvent::Kind::text, blanks_);
  buffer_.clear();
  blanks_.clear();
  return std::exchange(events_, {});
}

void ToolSplitter::put(ToolEvent::Kind kind, std::string_view text) {
  const bool piece = kind == ToolEvent::Kind::text || kind == ToolEvent::Kind::call_arguments;
  if (piece && text.empty()) return;
  if (piece && !events_.empty() && events_.back().kind == kind) {
    events_.back().text += text;
  } else {
    events_.push_back({kind, std::string(text)});
  }
}

void ToolSplitter::say(std::string_view text) {
  if (!said_ && blanks_.empty()) text.remove_prefix(past_blanks(text, 0));
  const std::size_t last = text.find_last_not_of(blanks);
  if (last != std::string_view::npos) {
    put(ToolEvent::Kind::text, blanks_);
    put(ToolEvent::Kind::text, text.substr(0, last + 1));
    blanks_.clear();
    text.remove_prefix(last + 1);
    said_ = true;
  }
  blanks_ += text;
}

/// One decision about what is in the buffer; false where more text is needed.
bool ToolSplitter::step() {
  switch (state_) {
    case State::text:
      return step_text();
    case State::opening:
      return step_opening();
    case State::parameters:
      return step_parameters();
    case State::value:
      return step_value();
    default:
      return step_closing();
  }
}

bool ToolSplitter::step_text() {
  const std::size_t at = std::string_view(buffer_).find(call_opening);
  const bool found = at != std::string::npos;
  const std::size_t end = found ? at : tail(buffer_, call_opening);
  say(std::string_view(buffer_).substr(0, end));
  buffer_.erase(0, end);
  if (found) state_ = State::opening;
  return found;
}

bool ToolSplitter::step_opening() {
  const std::string_view text = buffer_;
  std::string_view name;
  std::size_t at = past_blanks(text, call_opening.size());
  Match match = begins(text.substr(at), function_opening);
  if (match == Match::yes) match = name_at(text, at + function_opening.size(), name);
  if (match == Match::yes) {
    at = past_blanks(text, at + function_opening.size() + name.size() + 1);
    match = begins_either(text.substr(at), parameter_opening, function_closing);
  }
  if (match == Match::yes && text.substr(at).starts_with(parameter_opening)) {
    std::string_view key;
    match = name_at(text, at + parameter_opening.size(), key);
  }
  if (match == Match::open) return false;
  if (match == Match::no) {
    say(call_opening);
    buffer_.erase(0, call_opening.size());
    state_ = State::text;
    return true;
  }
  function_ = text::valid(name);
  first_parameter_ = true;
  ++calls_;
  put(ToolEvent::Kind::call_begin, function_);
  buffer_.erase(0, at);
  state_ = State::parameters;
  return true;
}

bool ToolSplitter::step_parameters() {
  const std::size_t at = past_blanks(buffer_, 0);
  const std::string_view text = std::string_view(buffer_).substr(at);
  if (text.starts_with(function_closing)) {
    put(ToolEvent::Kind::call_arguments, first_parameter_ ? "{}" : "}");
    put(ToolEvent::Kind::call_end, "");
    ++whole_calls_;
    buffer_.erase(0, at + function_closing.size());
    state_ = State::closing;
    return true;
  }
  std::string_view key;
  Match match = begins(text, parameter_opening);
  if (match == Match::yes) match = name_at(text, parameter_opening.size(), key);
  if (match == Match::open || (match == Match::no && function_closing.starts_with(text))) return false;
  if (match == Match::no) {
    state_ = State::text;
    return true;
  }
  types_ = text::declared_types(tools_, function_, text::valid(key));
  streams_ = text::always_string(types_);
  value_begins_ = true;
  value_.clear();
  put(ToolEvent::Kind::call_arguments,
      (first_parameter_ ? "{" : ",") + print(Json(text::valid(key))) + (streams_ ? ":\"" : ":"));
  first_parameter_ = false;
  buffer_.erase(0, at + parameter_opening.size() + key.size() + 1);
  state_ = State::value;
  return true;
}

void ToolSplitter::say_value(std::string_view text) {
  if (!streams_) {
    value_ += text;
    return;
  }
  const std::string quoted = print(Json(std::string(text)));
  put(ToolEvent::Kind::call_arguments, std::string_view(quoted).substr(1, quoted.size() - 2));
}

bool ToolSplitter::step_value() {
  if (value_begins_) {
    if (buffer_.empty()) return false;
    if (buffer_.front() == '\n') buffer_.erase(0, 1);
    value_begins_ = false;
  }
  const std::string_view text = buffer_;
  const std::size_t at = text.find(parameter_closing);
  if (at == std::string_view::npos) {
    std::size_t end = tail(text, parameter_closing);
    if (end > 0 && text[end - 1] == '\n') --end;
    say_value(text.substr(0, end));
    buffer_.erase(0, end);
    return false;
  }
  const std::size_t value_end = at > 0 && text[at - 1] == '\n' ? at - 1 : at;
  const std::size_t next = past_blanks(text, at + parameter_closing.size());
  switch (begins_either(text.substr(next), parameter_opening, function_closing)) {
    case Match::no:  // the value speaks of the tag
      say_value(text.substr(0, at + 1));
      buffer_.erase(0, at + 1);
      return true;
    case Match::open:
      say_value(text.substr(0, value_end));
      buffer_.erase(0, value_end);
      return false;
    default:
      say_value(text.substr(0, value_end));
      put(ToolEvent::Kind::call_arguments, streams_ ? "\"" : print(text::argument_value(value_, types_)));
      buffer_.erase(0, next);
      state_ = State::parameters;
      return true;
  }
}

bool ToolSplitter::step_closing() {
  const std::size_t at = past_blanks(buffer_, 0);
  const Match match = begins(std::string_view(buffer_).substr(at), call_closing);
  if (match == Match::open) return false;
  if (match == Match::yes) buffer_.erase(0, at + call_closing.size());
  state_ = State::text;
  return true;
}

std::string write(AnswerWriter& answer, int choice, const std::vector<ToolEvent>& events) {
  std::string out;
  for (const ToolEvent& event : events) {
    switch (event.kind) {
      case ToolEvent::Kind::text:
        out += answer.text(choice, event.text);
        break;
      case ToolEvent::Kind::call_begin:
        out += answer.call_begin(choice, event.text);
        break;
      case ToolEvent::Kind::call_arguments:
        out += answer.call_arguments(choice, event.text);
        break;
      default:
        out += answer.call_end(choice);
    }
  }
  return out;
}

}  // namespace tqkv::server
