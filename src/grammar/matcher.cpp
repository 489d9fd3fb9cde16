#include <algorithm>
#include <utility>

#include "grammar/state.h"

namespace tqkv {
namespace grammar {
namespace {

/// Drops the frames of the pool that no thread stands on.
void compact(Matcher::State& state) {
  std::vector<bool> live(state.pool.size());
  const auto mark = [&](std::int32_t at) {
    if (at >= 0) live[static_cast<std::size_t>(at)] = true;
  };
  for (const Frame& top : state.threads) mark(top.below), mark(top.used);
  for (std::size_t i = state.pool.size(); i-- > 0;)
    if (live[i]) mark(state.pool[i].below), mark(state.pool[i].used);
  std::vector<std::int32_t> moved(state.pool.size());
  const auto move = [&](Frame& frame) {
    if (frame.below >= 0) frame.below = moved[static_cast<std::size_t>(frame.below)];
    if (frame.used >= 0) frame.used = moved[static_cast<std::size_t>(frame.used)];
  };
  std::size_t size = 0;
  for (std::size_t i = 0; i < state.pool.size(); ++i) {
    if (!live[i]) continue;
    Frame frame = state.pool[i];
    move(frame);
    moved[i] = static_cast<std::int32_t>(size);
    state.pool[size++] = frame;
  }
  state.pool.resize(size);
  for (Frame& top : state.threads) move(top);
}

void append(std::string& out, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) out += static_cast<char>(number | 0x80);
  out += static_cast<char>(number);
}

}  // namespace

std::string place_of(const Grammar::Impl& grammar, const Matcher::State& state, std::uint32_t reach) {
  std::string place;
  for (const Frame& top : state.threads) {
    if (top.kind == FrameKind::string && grammar.nodes[top.node].kind == NodeKind::object) return {};
    for (const Frame* frame = &top;; frame = &state.pool[static_cast<std::size_t>(frame->below)]) {
      place += static_cast<char>(frame->kind);
      place += static_cast<char>(frame->step);
      place += static_cast<char>(frame->depth);
      place += static_cast<char>(frame->blanks);
      append(place, frame->node);
      if (frame->kind == FrameKind::string) {
        const Node& node = grammar.nodes[frame->node];
        append(place, std::min(node.most - frame->count, reach));
        append(place, std::min(node.least - std::min(node.least, frame->count), reach));
      } else {
        append(place, frame->count);
      }
      append(place, frame->partial);
      append(place, frame->value);
      for (std::int32_t at = frame->used; at >= 0; at = state.pool[static_cast<std::size_t>(at)].below)
        append(place, state.pool[static_cast<std::size_t>(at)].value);
      place += static_cast<char>(frame->below >= 0 ? '+' : '.');
      if (frame->below < 0) break;
    }
  }
  return place;
}

}  // namespace grammar

Matcher::Matcher(Grammar grammar) : grammar_(std::move(grammar)), state_(std::make_unique<State>()) {
  const Grammar::Impl& impl = grammar_.impl();
  grammar::Frame frame;
  frame.node = impl.root;
  frame.kind =
      impl.nodes[impl.root].kind == grammar::NodeKind::calls ? grammar::FrameKind::calls : grammar::FrameKind::value;
  if (frame.kind == grammar::FrameKind::value) frame.step = grammar::at_the_top;
  state_->threads.push_back(frame);
}
Matcher::Matcher(const Matcher& other) : grammar_(other.grammar_), state_(std::make_unique<State>(*other.state_)) {}
Matcher::Matcher(Matcher&&) noexcept = default;
Matcher& Matcher::operator=(const Matcher& other) {
  if (this != &other) *this = Matcher(other);
  return *this;
}
Matcher& Matcher::operator=(Matcher&&) noexcept = default;
Matcher::~Matcher() = default;

bool Matcher::advance(std::string_view bytes) {
  const std::size_t before = state_->pool.size();
  grammar::Stepper stepper(grammar_.impl(), state_->pool);
  std::vector<grammar::Frame> threads = state_->threads, next;
  for (const char byte : bytes) {
    next.clear();
    for (const grammar::Frame& top : threads) stepper.step(top, static_cast<std::uint8_t>(byte), next, 0);
    threads.swap(next);
    if (threads.empty()) {
      state_->pool.resize(before);
      return false;
    }
  }
  state_->threads = std::move(threads);
  if (state_->pool.size() > 256) grammar::compact(*state_);
  return true;
}

bool Matcher::can_end() const {
  grammar::Stepper stepper(grammar_.impl(), state_->pool);
  return std::any_of(state_->threads.begin(), state_->threads.end(),
                     [&](const grammar::Frame& top) { return stepper.can_end(top); });
}

bool Matcher::must_end() const {
  if (!can_end()) return false;
  const std::size_t before = state_->pool.size();
  grammar::Stepper stepper(grammar_.impl(), state_->pool);
  std::vector<grammar::Frame> next;
  for (int byte = 0; byte < 256 && next.empty(); ++byte)
    for (const grammar::Frame& top : state_->threads) stepper.step(top, static_cast<std::uint8_t>(byte), next, 0);
  state_->pool.resize(before);
  return next.empty();
}

}  // namespace tqkv
