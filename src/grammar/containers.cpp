// What a byte makes of objects, arrays, and calls of tools.
#include <algorithm>
#include <array>
#include <string_view>

#include "grammar/state.h"

namespace tqkv::grammar {
namespace {

enum Text : std::uint32_t { call_opening, parameter_opening, function_closing, parameter_closing };
constexpr std::array<std::string_view, 4> texts{"<tool_call>\n<function=", "<parameter=", "</function>\n</tool_call>",
                                                "\n</parameter>\n"};

/// A frame in `texts`, of which the front was read.
Frame rest_of(Text text, std::uint32_t read, std::int32_t below) {
  Frame frame;
  frame.kind = FrameKind::text;
  frame.node = text;
  frame.count = read;
  frame.below = below;
  return frame;
}

bool may_close(const Node& node, const Frame& frame) {
  return node.next_required[frame.count] == node.properties.size();
}

}  // namespace

/// Whether a key that may come now passes this place of the trie: a declared one up to the next required one.
bool Stepper::has_key(const Node& own, std::uint32_t trie, const Frame& around) const {
  const std::vector<std::uint32_t>& below = own.trie.below(trie);
  const int room = most_depth - around.depth;
  for (auto at = std::lower_bound(below.begin(), below.end(), around.count);
       at != below.end() && *at <= own.next_required[around.count]; ++at)
    if (own.deepest_part <= room || grammar_.nodes[own.properties[*at].node].depth <= room) return true;
  return false;
}

/// A key, of which the front was read: those that are declared, and others.
void Stepper::begin_key(Frame around) {
  const Node& own = node(around);
  const bool declared = has_key(own, 0, around);
  const bool other =
      own.extra != no_node && may_close(own, around) && around.depth + grammar_.nodes[own.extra].depth <= most_depth;
  if (!declared && !other) return;
  around.blanks = 0;
  Frame frame;
  frame.node = around.node;
  frame.below = keep(around);
  frame.kind = FrameKind::key;
  if (declared) add(frame);
  frame.kind = FrameKind::string;
  frame.value = start_hash;
  if (other) add(frame);
}

void Stepper::key(Frame frame, std::uint8_t byte) {
  const Node& own = node(frame);
  const Frame around = pool_[static_cast<std::size_t>(frame.below)];
  frame.count = own.trie.child(frame.count, byte);
  if (frame.count == Trie::none) return;
  if (own.kind != NodeKind::calls && !has_key(own, frame.count, around)) return;
  const std::uint32_t index = own.trie.text(frame.count);
  if (index == Trie::none)  // the byte that ends a key is in no key: none continues behind another one
    add(frame);
  else
    key_taken(around, index);
}

/// Properties up to this one are done; the number of properties stands for another key.
void Stepper::key_taken(Frame around, std::uint32_t index) {
  const Node& own = node(around);
  if (own.kind == NodeKind::calls) {
    around.step = call_done;
    Frame tool;
    tool.kind = FrameKind::tool;
    tool.node = own.properties[index].node;
    tool.step = line_due;
    tool.below = keep(around);
    return add(tool);
  }
  around.partial = index;
  around.count = std::min(index + 1, static_cast<std::uint32_t>(own.properties.size()));
  around.step = own.kind == NodeKind::tool ? static_cast<std::uint8_t>(text_due) : static_cast<std::uint8_t>(colon_due);
  add(around);
}

// frame.count: the next property; frame.partial: the one whose value is due; frame.depth: levels with this one.
void Stepper::object(Frame frame, std::uint8_t byte) {
  if (blank(frame, byte)) return;
  frame.blanks = 0;
  const Node& own = node(frame);
  switch (static_cast<ObjectStep>(frame.step)) {
    case opened:
      ++frame.depth;
      if (byte == '"') begin_key(frame);
      if (byte == '}' && may_close(own, frame)) finished(frame.below);
      return;
    case key_due:
      if (byte == '"') begin_key(frame);
      return;
    case colon_due: {
      if (byte != ':') return;
      Frame value;
      value.kind = FrameKind::value;
      value.node = frame.partial < own.properties.size() ? own.properties[frame.partial].node : own.extra;
      value.depth = frame.depth;
      frame.step = value_done;
      frame.partial = 0;
      value.below = keep(frame);
      return add(value);
    }
    case value_done:
      if (byte == '}' && may_close(own, frame)) finished(frame.below);
      if (byte != ',') return;
      frame.step = key_due;
      if (has_key(own, 0, frame) || (own.extra != no_node && may_close(own, frame) &&
                                     frame.depth + grammar_.nodes[own.extra].depth <= most_depth))
        add(frame);
      return;
  }
}

/// The node of the next item, or no_node where none may come.
std::uint32_t Stepper::item(const Frame& frame) const {
  const Node& own = node(frame);
  if (frame.count >= own.most) return no_node;
  const std::uint32_t item = frame.count < own.prefix.size() ? own.prefix[frame.count] : own.items;
  return item == no_node || frame.depth + grammar_.nodes[item].depth > most_depth ? no_node : item;
}

// frame.count: items, but no more than make a difference.
void Stepper::array(Frame frame, std::uint8_t byte) {
  if (blank(frame, byte)) return;
  frame.blanks = 0;
  const Node& own = node(frame);
  const bool first = frame.step == opened;
  if (first) ++frame.depth;
  frame.step = value_done;
  if (byte == ']') {
    if (frame.count >= own.least) finished(frame.below);
    return;
  }
  if (!first && byte != ',') return;
  const std::uint32_t next = item(frame);
  if (next == no_node) return;
  if (own.most != unbounded || frame.count < std::max<std::size_t>(own.least, own.prefix.size())) ++frame.count;
  const std::uint8_t depth = frame.depth;
  const std::int32_t below = keep(frame);
  if (first) return begin(next, depth, below, byte);
  Frame value;
  value.kind = FrameKind::value;
  value.node = next;
  value.depth = depth;
  value.below = below;
  add(value);
}

void Stepper::text(Frame frame, std::uint8_t byte) {
  const std::string_view own = texts[frame.node];
  if (byte != static_cast<std::uint8_t>(own[frame.count])) return;
  if (++frame.count < own.size()) return add(frame);
  if (frame.node == parameter_opening) {  // a name follows
    Frame name;
    name.kind = FrameKind::key;
    name.below = frame.below;
    name.node = pool_[static_cast<std::size_t>(frame.below)].node;
    return add(name);
  }
  finished(frame.below);
}

// frame.count: the next parameter; frame.partial: the one whose value is due.
void Stepper::tool(Frame frame, std::uint8_t byte) {
  const Node& own = node(frame);
  switch (static_cast<ToolStep>(frame.step)) {
    case line_due:
    case raw_done:
      frame.step = tag_due;
      if (byte == '\n') add(frame);
      return;
    case tag_due:
      frame.step = tag_open;
      if (byte == '<') add(frame);
      return;
    case tag_open:
      if (byte == 'p' && has_key(own, 0, frame)) {
        frame.step = name_due;
        add(rest_of(parameter_opening, 2, keep(frame)));
      }
      if (byte == '/' && may_close(own, frame)) add(rest_of(function_closing, 2, frame.below));
      return;
    case text_due: {
      if (byte != '\n') return;
      const std::uint32_t value = own.properties[frame.partial].node;
      frame.partial = 0;
      for (const std::uint32_t leaf : grammar_.nodes[value].leaves) {
        const bool raw = grammar_.nodes[leaf].kind == NodeKind::raw;
        frame.step = raw ? raw_done : text_done;
        Frame inner;
        inner.kind = raw ? FrameKind::raw : FrameKind::value;
        inner.node = leaf;
        if (!raw) inner.step = close_by;
        inner.below = keep(frame);
        add(inner);
      }
      return;
    }
    case text_done:
      frame.step = tag_due;
      if (byte == '\n') add(rest_of(parameter_closing, 1, keep(frame)));
      return;
    case name_due:
      return;
  }
}

// frame.count: calls so far.
void Stepper::calls(Frame frame, std::uint8_t byte) {
  const Node& own = node(frame);
  switch (static_cast<CallsStep>(frame.step)) {
    case call_due:
    case call_after:
      if (frame.step == call_due && blank(frame, byte, true)) return;
      if (byte != '<') return;
      frame.blanks = 0;
      frame.step = tool_due;
      ++frame.count;
      add(rest_of(call_opening, 1, keep(frame)));
      return;
    case tool_due: {
      Frame name;
      name.kind = FrameKind::key;
      name.node = frame.node;
      name.below = keep(frame);
      return key(name, byte);
    }
    case call_done:
      if (byte != '\n' || !own.parallel || frame.count >= most_calls) return;
      frame.step = call_after;
      return add(frame);
  }
}

}  // namespace tqkv::grammar
