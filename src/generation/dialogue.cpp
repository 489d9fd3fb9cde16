#include "generation/dialogue.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tqkv {

Dialogue::Dialogue(Open open, std::uint64_t snapshot_budget)
    : open_(std::move(open)), budget_(snapshot_budget), session_(open_()) {}

std::uint64_t Dialogue::snapshot_bytes() const {
  std::uint64_t bytes = base_snapshot_ ? base_snapshot_->bytes() : 0;
  for (const auto& [position, snapshot] : snapshots_) bytes += snapshot->bytes();
  return bytes;
}

std::optional<int> Dialogue::last_id() const {
  if (!pending_.empty()) return pending_.back();
  const std::span<const int> ids = session_->ids();
  if (ids.empty()) return std::nullopt;
  return ids.back();
}

GenerateResult Dialogue::say(const Tokenizer& tokenizer, std::span<const int> prompt, const GenerateOptions& options,
                             const TextSink& sink) {
  Turn turn;
  turn.position = session_->position();
  turn.pending = pending_;
  turn.prompt = pending_;
  turn.prompt.insert(turn.prompt.end(), prompt.begin(), prompt.end());
  if (turn.position > base_ && !snapshots_.contains(turn.position)) {
    snapshots_[turn.position] = session_->snapshot();
    thin_out();
  }
  GenerateResult result;
  try {
    result = generate(*session_, tokenizer, turn.prompt, options, sink);
  } catch (...) {
    go_back(turn.position);
    throw;
  }
  if (result.ids.empty()) {
    go_back(turn.position);
    return result;
  }
  turn.answer = result.ids;
  pending_ = {result.ids.back()};
  turns_.push_back(std::move(turn));
  return result;
}

bool Dialogue::undo() {
  if (turns_.empty()) return false;
  const Turn turn = std::move(turns_.back());
  turns_.pop_back();
  go_back(turn.position);
  pending_ = turn.pending;
  return true;
}

void Dialogue::reset() {
  session_ = open_();
  base_ = 0;
  base_snapshot_.reset();
  base_ids_.clear();
  base_pending_.clear();
  snapshots_.clear();
  turns_.clear();
  pending_.clear();
}

void Dialogue::adopt(std::unique_ptr<Session> session, std::vector<int> pending) {
  std::unique_ptr<Snapshot> snapshot = session->snapshot();
  snapshots_.clear();
  turns_.clear();
  session_ = std::move(session);
  base_ = session_->position();
  base_ids_.assign(session_->ids().begin(), session_->ids().end());
  base_snapshot_ = std::move(snapshot);
  base_pending_ = pending;
  pending_ = std::move(pending);
}

bool Dialogue::rebuild(Open open, std::optional<std::vector<int>> first_prompt, const Progress& progress) {
  std::vector<Turn> turns = turns_;
  if (first_prompt && !turns.empty()) turns.front().prompt = std::move(*first_prompt);
  int total = base_, before = 0;
  for (const Turn& turn : turns) total += static_cast<int>(turn.prompt.size() + turn.answer.size()) - 1;

  std::unique_ptr<Session> session = open();
  const auto prefill = [&](std::span<const int> ids) {
    bool wanted = true;
    PrefillOptions options;
    options.progress = [&](int done) { return wanted = !progress || progress(before + done, total); };
    session->prefill(ids, options);
    before += static_cast<int>(ids.size());
    return wanted;
  };
  std::unique_ptr<Snapshot> base_snapshot;
  if (base_ > 0) {
    if (!prefill(base_ids_)) return false;
    base_snapshot = session->snapshot();
  }
  std::map<int, std::unique_ptr<Snapshot>> snapshots;
  for (Turn& turn : turns) {
    turn.position = session->position();
    turn.at_once = true;
    if (turn.position > base_) snapshots[turn.position] = session->snapshot();
    std::vector<int> ids = turn.prompt;
    ids.insert(ids.end(), turn.answer.begin(), turn.answer.end() - 1);
    if (!prefill(ids)) return false;
  }
  // Snapshots go before the session that they are of.
  snapshots_ = std::move(snapshots);
  base_snapshot_ = std::move(base_snapshot);
  session_ = std::move(session);
  turns_ = std::move(turns);
  open_ = std::move(open);
  thin_out();
  return true;
}

/// Feeds a turn by the calls that it was computed with, so that the bits are the same.
void Dialogue::feed(const Turn& turn) {
  if (turn.at_once) {
    std::vector<int> ids = turn.prompt;
    ids.insert(ids.end(), turn.answer.begin(), turn.answer.end() - 1);
    session_->prefill(ids);
    return;
  }
  session_->prefill(turn.prompt);
  for (std::size_t i = 0; i + 1 < turn.answer.size(); ++i) session_->decode(turn.answer[i]);
}

/// To the end of the turns that are left, which is `position`: from the nearest state that is kept.
void Dialogue::go_back(int position) {
  snapshots_.erase(snapshots_.upper_bound(position), snapshots_.end());
  if (!snapshots_.empty())
    session_->restore(*snapshots_.rbegin()->second);
  else if (base_snapshot_)
    session_->restore(*base_snapshot_);
  else
    session_ = open_();
  for (const Turn& turn : turns_)
    if (turn.position >= session_->position()) feed(turn);
}

/// Keeps the newest snapshot and drops, while there are too many, the one whose neighbours are closest in the ratio of
/// their ages: what stays is spaced exponentially.
void Dialogue::thin_out() {
  const auto too_much = [&] {
    std::uint64_t bytes = 0;
    for (const auto& [position, snapshot] : snapshots_) bytes += snapshot->bytes();
    return bytes > budget_;
  };
  while (!snapshots_.empty() && too_much()) {
    if (snapshots_.size() <= 2) {
      snapshots_.erase(snapshots_.begin());
      continue;
    }
    const int now = snapshots_.rbegin()->first + 1;
    auto best = snapshots_.begin();
    double least = 0;
    for (auto at = std::next(snapshots_.begin()); std::next(at) != snapshots_.end(); ++at) {
      const double ratio =
          static_cast<double>(now - std::prev(at)->first) / static_cast<double>(now - std::next(at)->first);
      if (best == snapshots_.begin() || ratio < least) {
        least = ratio;
        best = at;
      }
    }
    snapshots_.erase(best);
  }
}

}  // namespace tqkv
