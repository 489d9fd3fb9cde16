#include <algorithm>
#include <utility>

#include "grammar/state.h"
#include "grammar/vocabulary.h"

namespace tqkv {
namespace {

using namespace grammar;

constexpr std::size_t most_kept = 32;

/// Characters of plain tokens that a thread takes: those that have no more are all allowed. 0: it is not inside a text,
/// or inside something in it.
std::uint32_t plain_room(const Grammar::Impl& grammar, const Frame& top) {
  if (top.step != whole) return 0;
  const Node& node = grammar.nodes[top.node];
  if (top.kind == FrameKind::raw ? (top.value & 0xff) != 0 : top.kind != FrameKind::string) return 0;
  if (node.kind == NodeKind::object || node.most == unbounded) return unbounded;
  return top.count < node.most ? node.most - top.count : 0;
}

/// Goes through a trie with the automaton, leaves out what begins with a refused byte, and allows the tokens passed.
void walk(const TokenTrie& trie, const Grammar::Impl& grammar, const Matcher::State& start, std::vector<bool>& mask) {
  Pool pool = start.pool;
  Stepper stepper(grammar, pool);
  std::vector<Frame> threads = start.threads;  // of every depth, one after the other
  std::vector<std::size_t> begins{0}, pools{pool.size()};
  std::vector<Frame> next;
  for (std::size_t i = 0; i < trie.nodes.size();) {
    const TokenTrie::Node& node = trie.nodes[i];
    const std::size_t depth = node.depth, from = begins[depth];
    const std::size_t to = depth + 1 < begins.size() ? begins[depth + 1] : threads.size();
    begins.resize(depth + 1);
    pools.resize(depth + 1);
    threads.resize(to);
    pool.resize(pools[depth]);
    for (std::size_t at = from; at < to; ++at) {
      const Frame top = threads[at];
      stepper.step(top, node.byte, threads, to);
    }
    if (threads.size() == to) {
      i = node.end;
      continue;
    }
    for (std::uint32_t id = node.first; id < node.last; ++id) {
      const auto place = static_cast<std::size_t>(trie.ids[id]);
      if (place < mask.size()) mask[place] = true;
    }
    begins.push_back(to);
    pools.push_back(pool.size());
    ++i;
  }
}

}  // namespace

TokenMasks::TokenMasks(const Vocabulary& vocabulary, int size, std::vector<int> stop_ids)
    : vocabulary_(&vocabulary), size_(static_cast<std::size_t>(std::max(size, 0))), stop_ids_(std::move(stop_ids)) {}

const std::vector<bool>& TokenMasks::allowed(const Matcher& matcher) {
  const Grammar::Impl& grammar = matcher.grammar().impl();
  const Vocabulary::Impl& vocabulary = vocabulary_->impl();
  const std::string place = place_of(grammar, matcher.state(), vocabulary.longest);
  ++calls_;
  if (const auto found = place.empty() ? kept_.end() : kept_.find(place); found != kept_.end()) {
    found->second.used = calls_;
    return found->second.mask;
  }
  std::vector<bool> mask(size_);
  const std::vector<Frame>& threads = matcher.state().threads;
  std::uint32_t room = 0;
  for (const Frame& top : threads) room = std::max(room, plain_room(grammar, top));
  if (room > 0) {
    for (std::size_t i = 0; i < vocabulary.plain_ids.size(); ++i) {
      const auto id = static_cast<std::size_t>(vocabulary.plain_ids[i]);
      if (vocabulary.plain_characters[i] <= room && id < size_) mask[id] = true;
    }
  } else {
    walk(vocabulary.plain, grammar, matcher.state(), mask);
  }
  walk(vocabulary.others, grammar, matcher.state(), mask);
  const bool end = matcher.can_end();
  for (const int id : stop_ids_)
    if (id >= 0 && static_cast<std::size_t>(id) < size_) mask[static_cast<std::size_t>(id)] = end;
  if (place.empty()) return last_ = std::move(mask);
  if (kept_.size() >= most_kept)
    kept_.erase(std::min_element(kept_.begin(), kept_.end(),
                                 [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  return kept_.emplace(place, Kept{std::move(mask), calls_}).first->second.mask;
}

}  // namespace tqkv
