// What a byte makes of values: literals, strings, numbers, and the end of one.
#include <algorithm>

#include "grammar/state.h"

namespace tqkv::grammar {
namespace {

bool is_blank(std::uint8_t byte) {
  return byte == ' ' || byte == '\n' || byte == '\t';
}

}  // namespace

void Stepper::step(const Frame& top, std::uint8_t byte, std::vector<Frame>& out, std::size_t begin) {
  out_ = &out;
  begin_ = begin;
  take(top, byte);
}

bool Stepper::can_end(const Frame& top) const {
  return top.below < 0 && ends(top);
}

// A thread that is left out leaves a grammar that allows less; each of the others still has its end.
void Stepper::add(const Frame& top) {
  const auto first = out_->begin() + static_cast<std::ptrdiff_t>(begin_);
  if (out_->size() - begin_ >= most_threads || std::find(first, out_->end(), top) != out_->end()) return;
  out_->push_back(top);
}

std::int32_t Stepper::keep(const Frame& frame) {
  pool_.push_back(frame);
  return static_cast<std::int32_t>(pool_.size() - 1);
}

/// Takes a blank where blanks may be; false: it is none. Of a wrong one nothing is left.
bool Stepper::blank(Frame frame, std::uint8_t byte, bool leading) {
  if (!is_blank(byte)) return false;
  const bool first = frame.blanks == 0;
  if (leading ? byte == '\n' && frame.blanks < most_lines : byte == '\n' ? first : frame.blanks <= most_indent) {
    if (first && byte == '\t') return true;
    frame.blanks = static_cast<std::uint8_t>(first && byte == ' ' ? most_indent + 1 : frame.blanks + 1);
    add(frame);
  }
  return true;
}

void Stepper::take(Frame frame, std::uint8_t byte) {
  switch (frame.kind) {
    case FrameKind::value:
      if (frame.step == close_by || !blank(frame, byte, frame.step == at_the_top))
        begin(frame.node, frame.depth, frame.below, byte);
      return;
    case FrameKind::literal:
      return literal(frame, byte);
    case FrameKind::string:
      return string(frame, byte);
    case FrameKind::range:
    case FrameKind::number: {
      Frame longer = frame;
      const bool range = frame.kind == FrameKind::range;
      if (range ? range_byte(longer, byte, node(frame)) : number_byte(longer, byte)) add(longer);
      if (ends(frame)) go_on(frame.below, byte);
      return;
    }
    case FrameKind::key:
      return key(frame, byte);
    case FrameKind::object:
      return object(frame, byte);
    case FrameKind::array:
      return array(frame, byte);
    case FrameKind::raw:
      switch (raw_byte(frame, byte, node(frame))) {
        case Progress::refused:
          return;
        case Progress::closed:
          return finished(frame.below);
        default:
          return add(frame);
      }
    case FrameKind::text:
      return text(frame, byte);
    case FrameKind::tool:
      return tool(frame, byte);
    case FrameKind::calls:
      return calls(frame, byte);
    case FrameKind::used_key:
    case FrameKind::end:
      return;
  }
}

/// The first byte of a value.
void Stepper::begin(std::uint32_t value, std::uint8_t depth, std::int32_t below, std::uint8_t byte) {
  for (const std::uint32_t leaf : grammar_.nodes[value].leaves) {
    const Node& own = grammar_.nodes[leaf];
    if (depth + own.depth > most_depth) continue;
    Frame frame;
    frame.node = leaf;
    frame.depth = depth;
    frame.below = below;
    switch (own.kind) {
      case NodeKind::literals:
        frame.kind = FrameKind::literal;
        literal(frame, byte);
        break;
      case NodeKind::string:
        frame.kind = FrameKind::string;
        if (byte == '"') add(frame);
        break;
      case NodeKind::range:
        frame.kind = FrameKind::range;
        if (range_byte(frame, byte, own)) add(frame);
        break;
      case NodeKind::number:
        frame.kind = FrameKind::number;
        if (number_byte(frame, byte)) add(frame);
        break;
      case NodeKind::object:
        frame.kind = FrameKind::object;
        if (byte == '{') add(frame);
        break;
      case NodeKind::array:
        frame.kind = FrameKind::array;
        if (byte == '[') add(frame);
        break;
      default:
        break;
    }
  }
}

/// A value is whole: the frame around it continues, or nothing does.
void Stepper::finished(std::int32_t below) {
  add(below < 0 ? Frame{} : pool_[static_cast<std::size_t>(below)]);
}

/// A value may be whole, and the frame around it takes the byte.
void Stepper::go_on(std::int32_t below, std::uint8_t byte) {
  if (below >= 0) take(pool_[static_cast<std::size_t>(below)], byte);
}

bool Stepper::ends(const Frame& frame) const {
  switch (frame.kind) {
    case FrameKind::end:
      return true;
    case FrameKind::literal:
      return node(frame).trie.text(frame.count) != Trie::none;
    case FrameKind::range:
      return range_ends(frame, node(frame));
    case FrameKind::number:
      return number_ends(frame);
    case FrameKind::calls:
      return frame.step == call_done || frame.step == call_after;
    default:
      return false;
  }
}

void Stepper::literal(Frame frame, std::uint8_t byte) {
  const Trie& trie = node(frame).trie;
  if (trie.text(frame.count) != Trie::none) go_on(frame.below, byte);
  const std::uint32_t next = trie.child(frame.count, byte);
  if (next == Trie::none) return;
  frame.count = next;
  if (trie.leaf(next))
    finished(frame.below);
  else
    add(frame);
}

void Stepper::string(Frame frame, std::uint8_t byte) {
  const Node& own = node(frame);
  const bool is_key = own.kind == NodeKind::object;
  if (!is_key && frame.count >= own.most && frame.step <= after_less && byte != '"') return;
  const Progress progress = string_byte(frame, byte, grammar_.markup);
  if (progress == Progress::refused) return;
  if (progress == Progress::character) {
    if (is_key)
      frame.value = add_character(frame.value, frame.partial);
    else if (own.most != unbounded || frame.count < own.least)
      ++frame.count;
    frame.partial = 0;
  }
  if (progress != Progress::closed) return add(frame);
  if (!is_key) {
    if (frame.count >= own.least) finished(frame.below);
    return;
  }
  Frame around = pool_[static_cast<std::size_t>(frame.below)];
  for (const Property& property : own.properties)
    if (property.hash == frame.value) return;
  for (std::int32_t at = around.used; at >= 0; at = pool_[static_cast<std::size_t>(at)].below)
    if (pool_[static_cast<std::size_t>(at)].value == frame.value) return;
  Frame taken;
  taken.kind = FrameKind::used_key;
  taken.value = frame.value;
  taken.below = around.used;
  around.used = keep(taken);
  key_taken(around, static_cast<std::uint32_t>(own.properties.size()));
}

}  // namespace tqkv::grammar
