// The automaton: threads, each a stack of frames, and what a byte makes of them.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "grammar/nodes.h"

namespace tqkv {
namespace grammar {

enum class FrameKind : std::uint8_t {
  value,
  literal,
  string,
  range,
  number,
  key,
  object,
  array,
  raw,
  text,
  tool,
  calls,
  used_key,
  end
};

/// One level of a stack: an open value and what is known of it.
struct Frame {
  std::uint32_t node = 0;  // or the text, for FrameKind::text
  FrameKind kind = FrameKind::end;
  std::uint8_t step = 0;      // where in its value it stands
  std::uint8_t depth = 0;     // levels around it
  std::uint8_t blanks = 0;    // in a row, so far
  std::uint32_t count = 0;    // characters, digits, items; the next property; the place in a trie or text
  std::uint32_t partial = 0;  // bits of a character that is not whole
  std::int32_t used = -1;     // object: keys that are taken, in the pool
  std::int32_t below = -1;    // the frame around it, in the pool; -1: none
  std::uint64_t value = 0;    // digits, hash of a key, progress of a closing tag
  friend bool operator==(const Frame&, const Frame&) = default;
};

/// Where a string or a text stands inside a character.
enum CharacterStep : std::uint8_t {
  whole,
  after_less,  // "<": where values lie inside tags, no "/" follows
  escape,
  hex1,
  hex2,
  hex3,
  hex4,
  low_backslash,
  low_u,
  low1,
  low2,
  low3,
  low4,  // the second half of a surrogate pair
  tail1,
  tail2,
  tail3,
  tail_e0,
  tail_ed,
  tail_f0,
  tail_f4  // bytes of UTF-8 that follow
};

enum class Progress : std::uint8_t { refused, inside, character, closed };
/// The next byte of a JSON string; the character is in frame.partial.
Progress string_byte(Frame& frame, std::uint8_t byte, bool markup);
/// The next byte of a character that has begun, or the first one of 0x80 and above.
Progress utf8_byte(Frame& frame, std::uint8_t byte);
/// The next byte of a parameter's text.
Progress raw_byte(Frame& frame, std::uint8_t byte, const Node& node);
/// Takes the next byte of a number into the frame where some number of the node continues like that.
bool range_byte(Frame& frame, std::uint8_t byte, const Node& node);
bool range_ends(const Frame& frame, const Node& node);
bool number_byte(Frame& frame, std::uint8_t byte);
bool number_ends(const Frame& frame);

enum ValueStep : std::uint8_t { after_blanks, close_by, at_the_top };  // close_by: no blanks stand before it
enum ObjectStep : std::uint8_t { opened, key_due, colon_due, value_done };
enum ToolStep : std::uint8_t { line_due, tag_due, tag_open, name_due, text_due, text_done, raw_done };
enum CallsStep : std::uint8_t { call_due, tool_due, call_done, call_after };

/// Frames below the top ones; they never change, and later ones lie above earlier ones.
using Pool = std::vector<Frame>;

/// What becomes of threads with the next byte.
class Stepper {
 public:
  Stepper(const Grammar::Impl& grammar, Pool& pool) : grammar_(grammar), pool_(pool) {}
  /// Appends to `out` what `top` becomes, at most most_threads in all from `begin` on.
  void step(const Frame& top, std::uint8_t byte, std::vector<Frame>& out, std::size_t begin);
  bool can_end(const Frame& top) const;

 private:
  const Node& node(const Frame& frame) const { return grammar_.nodes[frame.node]; }
  void add(const Frame& top);
  std::int32_t keep(const Frame& frame);
  bool blank(Frame frame, std::uint8_t byte, bool leading = false);
  void take(Frame frame, std::uint8_t byte);
  void begin(std::uint32_t value, std::uint8_t depth, std::int32_t below, std::uint8_t byte);
  void finished(std::int32_t below);
  void go_on(std::int32_t below, std::uint8_t byte);
  bool ends(const Frame& frame) const;
  void literal(Frame frame, std::uint8_t byte);
  void string(Frame frame, std::uint8_t byte);
  void key(Frame frame, std::uint8_t byte);
  void key_taken(Frame around, std::uint32_t index);
  void object(Frame frame, std::uint8_t byte);
  void begin_key(Frame around);
  bool has_key(const Node& node, std::uint32_t trie, const Frame& around) const;
  void array(Frame frame, std::uint8_t byte);
  std::uint32_t item(const Frame& array) const;
  void text(Frame frame, std::uint8_t byte);
  void tool(Frame frame, std::uint8_t byte);
  void calls(Frame frame, std::uint8_t byte);

  const Grammar::Impl& grammar_;
  Pool& pool_;
  std::vector<Frame>* out_ = nullptr;
  std::size_t begin_ = 0;
};

}  // namespace grammar

struct Matcher::State {
  grammar::Pool pool;
  std::vector<grammar::Frame> threads;  // their top frames
};

namespace grammar {
/// The same text for the same place, if the place may come again: otherwise empty. Lengths beyond `reach` bytes are
/// one.
std::string place_of(const Grammar::Impl& grammar, const Matcher::State& state, std::uint32_t reach);
}  // namespace grammar

}  // namespace tqkv
