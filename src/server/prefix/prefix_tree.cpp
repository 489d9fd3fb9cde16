#include "server/prefix/prefix_tree.h"

#include <algorithm>

#include "cache/accounting.h"

namespace tqkv::server {
namespace {

bool alike(const CacheReport& cache, const KvFormat& format, StateType state) {
  return cache.format == format && cache.state == state;
}

int common(std::span<const int> a, std::span<const int> b) {
  const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<int>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin());
}

}  // namespace

std::uint64_t shared_bytes(const ModelConfig& config, const Session& session, int tokens) {
  const CacheReport cache = session.cache();
  const auto full = static_cast<std::uint64_t>(tokens / cache::page_tokens * cache::page_tokens);
  return std::min(cache.bytes.kv_shared, full * cache::bytes_per_token(config, cache.format));
}

PrefixTree::Lease::Lease(Node* node) : node_(node) {
  if (node_) ++node_->leases;
}

PrefixTree::Lease::~Lease() {
  if (node_) --node_->leases;
}

int PrefixTree::Lease::tokens() const {
  return node_ ? node_->session->position() : 0;
}

bool PrefixTree::Lease::exact() const {
  return !node_ || node_->border != Border::answer;
}

PrefixTree::Match PrefixTree::find(const KvFormat& format, StateType state, std::span<const int> ids, bool exact) {
  Match match;
  Node* longest = nullptr;
  for (Node& node : nodes_) {
    if (!alike(node.session->cache(), format, state)) continue;
    const int same = common(node.session->ids(), ids);
    match.parted_at = std::max(match.parted_at, same);
    if (same < node.session->position() || same >= static_cast<int>(ids.size())) continue;
    if (exact && node.border == Border::answer) continue;
    const auto order = [](const Node& one) { return std::pair(one.session->position(), one.border != Border::answer); };
    if (!longest || order(*longest) < order(node)) longest = &node;
  }
  for (Node* node = longest; node; node = node->parent) node->used = ++clock_;
  match.lease = Lease(longest);
  return match;
}

std::unique_ptr<Session> PrefixTree::open(const Lease& lease, const KvFormat& format,
                                          const SessionOptions& options) const {
  if (!lease.node_) return engine_.open(format, options);
  const Session& kept = *lease.node_->session;
  return engine_.fork(kept, *kept.snapshot(), options);
}

void PrefixTree::keep(const Session& session, const Snapshot& snapshot, Border border, Lease& from) {
  const auto ids = session.ids().first(static_cast<std::size_t>(snapshot.position()));
  const CacheReport cache = session.cache();
  if (!from.exact()) border = Border::answer;
  if (snapshot.bytes() > budget_ || holds(cache.format, cache.state, ids, border)) return;
  SessionOptions options;
  options.context = std::max(snapshot.position(), 1);
  options.state = cache.state;
  if (Node* node = add(engine_.fork(session, snapshot, options), border, from.node_)) from = Lease(node);
}

void PrefixTree::keep(std::unique_ptr<Session> session, Lease from) {
  const CacheReport cache = session->cache();
  if (!holds(cache.format, cache.state, session->ids(), Border::answer))
    add(std::move(session), Border::answer, from.node_);
}

void PrefixTree::adopt(std::unique_ptr<Session> session, Border border) {
  const CacheReport cache = session->cache();
  if (!holds(cache.format, cache.state, session->ids(), border)) add(std::move(session), border, nullptr);
}

bool PrefixTree::reserve(std::uint64_t bytes) {
  if (reserved_ + bytes > room_) return false;
  while (bytes_ + reserved_ + bytes > room_)
    if (!drop_one()) return false;
  reserved_ += bytes;
  return true;
}

std::uint64_t PrefixTree::state_bytes() const {
  std::uint64_t sum = 0;
  for (const Node& node : nodes_) sum += node.session->cache().bytes.state();
  return sum;
}

bool PrefixTree::holds(const KvFormat& format, StateType state, std::span<const int> ids, Border border) const {
  return std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
    return (node.border != Border::answer || border == Border::answer) &&
           std::ranges::equal(node.session->ids(), ids) && alike(node.session->cache(), format, state);
  });
}

PrefixTree::Node* PrefixTree::add(std::unique_ptr<Session> session, Border border, Node* parent) {
  const std::uint64_t all = session->cache().bytes.allocated();
  const int from = parent ? parent->session->position() : 0;
  const std::uint64_t own = all - shared_bytes(engine_.config(), *session, from);
  if (own > room_) return nullptr;
  const Lease held(parent);  // while room is made
  while (bytes_ + own > room_)
    if (!drop_one()) return nullptr;
  bytes_ += own;
  ++changes_;
  if (parent) ++parent->children;
  const std::uint64_t state = session->cache().bytes.state();
  nodes_.push_back({std::move(session), border, parent, own, state, ++clock_, 0, 0});
  return &nodes_.back();
}

// Of a state that another one continues from, the pages stay: they belong to that one from here on.
bool PrefixTree::drop_one() {
  auto least = nodes_.end();
  for (auto node = nodes_.begin(); node != nodes_.end(); ++node) {
    if (node->leases > 0 || node->children > 1) continue;
    const auto order = [](const Node& one) {
      return std::pair(one.border == Border::inside ? 0 : one.border == Border::system ? 2 : 1, one.used);
    };
    if (least == nodes_.end() || order(*node) < order(*least)) least = node;
  }
  if (least == nodes_.end()) return false;
  Node* child = nullptr;
  for (Node& node : nodes_)
    if (node.parent == &*least) child = &node;
  if (child) {
    child->parent = least->parent;
    child->bytes += least->bytes - least->state;
    bytes_ -= least->state;
  } else {
    bytes_ -= least->bytes;
    if (least->parent) --least->parent->children;
  }
  ++changes_;
  nodes_.erase(least);
  return true;
}

}  // namespace tqkv::server
