// PrefixTree: states of sessions that are kept, so that a prompt which begins like an earlier one is not computed
// again.
//
// A recurrent state cannot be cut. So states are kept where prompts really part: behind the system message and the
// tools, behind the last message of a user, and where an answer ended. A kept state is a session of its own, whose
// full pages are shared with those that went on from it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <utility>

#include "tqkv/engine.h"
#include "tqkv/kv_format.h"

namespace tqkv::server {

/// What a kept state stands behind, or that it stands inside a message, for the same text with another end. `answer` is
/// also every state that was computed from one of an answer: they have bits of decoded tokens, and a prompt that is
/// read at once has others, by rounding.
enum class Border { system, question, answer, inside };

class PrefixTree {
 private:
  struct Node;

 public:
  /// Keeps at most `budget` bytes.
  PrefixTree(const Engine& engine, std::uint64_t budget) : engine_(engine), budget_(budget), room_(budget) {}
  /// From here on nothing is added beyond `bytes`, where that is less than the budget.
  void limit(std::uint64_t bytes) { room_ = std::min(budget_, bytes); }
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  /// Keeps room for snapshots that a step takes, until release(): lets states go for it. False where there is none.
  bool reserve(std::uint64_t bytes);
  void release() { reserved_ = 0; }

  /// What a session continues from: as long as one lives, the state stays, and its pages count as the tree's.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(node_, other.node_);
      return *this;
    }
    ~Lease();
    /// Tokens of the state; 0: there is none.
    int tokens() const;
    /// Whether it has the bits that a new computation of its tokens gives.
    bool exact() const;

   private:
    friend PrefixTree;
    explicit Lease(Node* node);
    Node* node_ = nullptr;
  };

  struct Match {
    Lease lease;
    int parted_at = 0;  ///< ids that the prompt has in common with the nearest kept state
  };
  /// The longest kept state of `format` and `state` that `ids` begin with and go beyond. `exact`: not one of an answer.
  Match find(const KvFormat& format, StateType state, std::span<const int> ids, bool exact);
  /// A session that continues from it, or an empty one.
  std::unique_ptr<Session> open(const Lease& lease, const KvFormat& format, const SessionOptions& options) const;

  /// Keeps what `session` was at `snapshot`, one of its own; `from` is what the session itself continues from, and then
  /// continues from the new one. Nothing where that state is kept already, or has no room.
  void keep(const Session& session, const Snapshot& snapshot, Border border, Lease& from);
  /// Keeps a session that is used no more.
  void keep(std::unique_ptr<Session> session, Lease from);

  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t budget() const { return budget_; }
  std::uint64_t state_bytes() const;                  ///< of bytes(): recurrent states, the rest is keys and values
  std::uint64_t changes() const { return changes_; }  ///< states that came and went, so far
  int states() const { return static_cast<int>(nodes_.size()); }
  /// Lets go the state that was used least recently, those inside messages first and those behind system messages last;
  /// false when every one is in use, or several continue from it.
  bool drop_one();
  /// The kept sessions, for saving them.
  template <class Action>
  void for_each(const Action& action) const {
    for (const Node& node : nodes_) action(static_cast<const Session&>(*node.session), node.border);
  }
  /// Takes a session that was saved. What does not fit any more is let go.
  void adopt(std::unique_ptr<Session> session, Border border);

 private:
  struct Node {
    std::unique_ptr<Session> session;
    Border border = Border::system;
    Node* parent = nullptr;   // whose full pages it shares
    std::uint64_t bytes = 0;  // of its own
    std::uint64_t state = 0;  // of them, the recurrent state
    std::uint64_t used = 0;   // when
    int leases = 0;
    int children = 0;
  };

  Node* add(std::unique_ptr<Session> session, Border border, Node* parent);
  /// Whether such a state would bring nothing new.
  bool holds(const KvFormat& format, StateType state, std::span<const int> ids, Border border) const;

  const Engine& engine_;
  std::uint64_t budget_, room_, reserved_ = 0;
  std::list<Node> nodes_;
  std::uint64_t bytes_ = 0, clock_ = 0, changes_ = 0;
};

/// Of the bytes of `session`: those that one with the same first `tokens` tokens holds too.
std::uint64_t shared_bytes(const ModelConfig& config, const Session& session, int tokens);

}  // namespace tqkv::server
