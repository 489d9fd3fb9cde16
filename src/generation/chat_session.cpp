#include "tqkv/chat_session.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tqkv/turns.h"

namespace tqkv {
namespace {

int tokens(std::span<const int> ids) {
  return static_cast<int>(ids.size());
}

}  // namespace

ChatSession::ChatSession(Open open, std::uint64_t snapshot_budget, CutRule cuts)
    : open_(std::move(open)), cuts_(cuts), budget_(snapshot_budget), session_(open_()) {}

const Session& ChatSession::session() {
  catch_up();
  return *session_;
}

int ChatSession::position() const {
  return turns_.empty() ? tokens(base_) : turns_.back().position + tokens(turns_.back().ids);
}

std::uint64_t ChatSession::snapshot_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [position, kept] : kept_) bytes += kept.snapshot->bytes();
  return bytes;
}

std::optional<int> ChatSession::last_id() const {
  if (!pending_.empty()) return pending_.back();
  if (!base_.empty()) return base_.back();
  return std::nullopt;
}

std::vector<ChatPiece> ChatSession::placed(std::vector<ChatPiece> turns, const Tokenizer& tokenizer) const {
  const std::optional<int> last = last_id();
  return last ? next_turns(std::move(turns), last == end_of_turn(tokenizer)) : turns;
}

GenerateResult ChatSession::say(const Tokenizer& tokenizer, std::span<const int> prompt, const GenerateOptions& options,
                                const TextSink& sink) {
  Turn turn;
  turn.position = position();
  turn.before = pending_;
  turn.ids = pending_;
  turn.ids.insert(turn.ids.end(), prompt.begin(), prompt.end());
  turn.prompt = turn.at_once = turn.ids.size();
  const Progress wanted = [&](int done, int total) {
    if (options.progress) options.progress(done, total);
    return options.cancel == nullptr || !options.cancel->load();
  };
  if (!catch_up(wanted, turn.ids, options.cancel)) {
    GenerateResult stopped;
    stopped.reason = FinishReason::cancelled;
    stopped.cache = cache();
    return stopped;
  }
  const int held = session_->position() - turn.position;  // of the prompt
  if (held == 0) keep(turn.position);
  GenerateOptions generation = options;
  generation.cuts = cuts_;
  generation.progress = [&](int done, int total) {
    if (done < total) keep(turn.position);
    if (options.progress) options.progress(held + done, held + total);
  };
  GenerateResult result =
      generate(*session_, tokenizer, std::span(turn.ids).subspan(static_cast<std::size_t>(held)), generation, sink);
  if (result.ids.empty()) return result;
  turn.ids.insert(turn.ids.end(), result.ids.begin(), result.ids.end() - 1);
  pending_ = {result.ids.back()};
  turns_.push_back(std::move(turn));
  return result;
}

bool ChatSession::undo() {
  if (turns_.empty()) return false;
  pending_ = std::move(turns_.back().before);
  turns_.pop_back();
  return true;
}

void ChatSession::reset() {
  ChatSession fresh(open_, budget_, cuts_);
  std::swap(*this, fresh);
}

void ChatSession::adopt(std::unique_ptr<Session> session, std::vector<int> pending) {
  const int end = session->position();
  std::vector<int> base(session->ids().begin(), session->ids().end());
  KeptStates kept;
  if (end > 0) kept[end] = {session->snapshot(), end};
  kept_ = std::move(kept);  // before the session that the others are of goes
  session_ = std::move(session);
  base_ = std::move(base);
  base_given_ = true;
  kept_size_ = snapshot_bytes();
  turns_.clear();
  pending_ = std::move(pending);
}

bool ChatSession::rebuild(Open open, std::optional<std::vector<int>> first_prompt, const Progress& progress) {
  ChatSession next(std::move(open), 0, cuts_);
  next.base_ = base_;
  next.turns_ = turns_;
  next.pending_ = pending_;
  if (first_prompt && !turns_.empty()) {
    Turn& first = next.turns_.front();
    first.ids.erase(first.ids.begin(), first.ids.begin() + static_cast<std::ptrdiff_t>(first.prompt));
    first.ids.insert(first.ids.begin(), first_prompt->begin(), first_prompt->end());
    first.prompt = first_prompt->size();
  }
  int end = tokens(base_);
  for (Turn& turn : next.turns_) {
    turn.position = end;
    turn.at_once = turn.ids.size();
    end += tokens(turn.ids);
  }
  std::erase_if(kept_, [&](const auto& kept) { return !stays(kept.first); });
  next.budget_ = budget_ - std::min(budget_, snapshot_bytes());
  if (!next.catch_up(progress)) return false;
  next.budget_ = budget_;
  std::swap(*this, next);
  return true;
}

bool ChatSession::catch_up(const Progress& progress, std::span<const int> next, const std::atomic<bool>* stop) {
  const int end = position();
  if (session_->position() == end) return true;
  go_back(next);
  const int start = session_->position();
  const auto go_on = [&] { return !progress || progress(session_->position() - start, end - start); };
  if (start < tokens(base_) && !feed(0, base_, base_.size(), go_on, stop)) return false;
  for (const Turn& turn : turns_) {
    const bool held = session_->position() >= turn.position + tokens(turn.ids);
    if (!held && !feed(turn.position, turn.ids, turn.at_once, go_on, stop)) return false;
  }
  return true;
}

/// To the nearest state that is kept of the text, or of a prompt behind it that begins like `next`.
void ChatSession::go_back(std::span<const int> next) {
  const int end = position();
  auto beyond = kept_.upper_bound(end);
  auto nearest = beyond == kept_.begin() ? kept_.end() : std::prev(beyond);
  for (; beyond != kept_.end(); ++beyond) {
    const std::span<const int> tail =
        session_->ids().first(static_cast<std::size_t>(beyond->first)).subspan(static_cast<std::size_t>(end));
    if (beyond->second.begin == end && tail.size() < next.size() && std::ranges::equal(tail, next.first(tail.size())))
      nearest = beyond;
  }
  if (nearest == kept_.end()) {
    std::unique_ptr<Session> empty = open_();
    kept_.clear();  // before the session that they are of goes
    session_ = std::move(empty);
    return;
  }
  session_->restore(*nearest->second.snapshot);
  kept_.erase(std::next(nearest), kept_.end());
}

/// The rest of a piece of text that begins at `begin`, by the calls that it was computed with, so that the bits are the
/// same: the first `at_once` ids in chunks, the others one by one.
bool ChatSession::feed(int begin, std::span<const int> ids, std::size_t at_once, const std::function<bool()>& go_on,
                       const std::atomic<bool>* stop) {
  const auto held = [&] { return static_cast<std::size_t>(session_->position() - begin); };
  bool wanted = true;
  if (held() == 0) keep(begin);
  if (held() < at_once) {
    PrefillOptions options;
    options.progress = [&](int) {
      if (held() < at_once) keep(begin);
      return wanted = go_on();
    };
    options.stop = stop;
    const std::span<const int> left = ids.first(at_once).subspan(held());
    const std::vector<int> ends = cuts_.ends(session_->ids(), left);
    options.pieces.ends = ends;
    if (session_->prefill(left, options).empty()) return false;
  }
  while (wanted && held() < ids.size()) {
    session_->decode(ids[held()]);
    wanted = go_on();
  }
  return wanted;
}

/// Keeps the state of the session, which is where a call began that feeds from `begin`, or at the end of a chunk of it.
void ChatSession::keep(int begin) {
  const int position = session_->position();
  if (position == 0 || kept_.contains(position)) return;
  kept_size_ = std::max(kept_size_, cache().bytes.state());
  if (!make_room(kept_size_, begin)) return;
  const std::unique_ptr<Snapshot>& snapshot = (kept_[position] = {session_->snapshot(), begin}).snapshot;
  kept_size_ = std::max(kept_size_, snapshot->bytes());
  if (!make_room(0, begin)) kept_.erase(position);  // with a window they grow
}

bool ChatSession::make_room(std::uint64_t bytes, int begin) {
  while (snapshot_bytes() + bytes > budget_) {
    const auto least = least_needed(begin);
    if (least == kept_.end()) return false;
    kept_.erase(least);
  }
  return true;
}

/// Of what may go while a call feeds from `begin`: a chunk of an earlier prompt, which no undo needs; then the state
/// whose neighbours are closest in the ratio of their distances from here, so that those that stay are spaced
/// exponentially. The beginning of the text costs nothing and is a neighbour.
ChatSession::KeptStates::iterator ChatSession::least_needed(int begin) {
  const int here = session_->position();
  auto least = kept_.end();
  std::pair<bool, double> least_order;
  int before = 0;
  for (auto at = kept_.begin(); at != kept_.end(); before = at->first, ++at) {
    if (at->first == begin || stays(at->first)) continue;
    const int after = std::next(at) == kept_.end() ? here : std::next(at)->first;
    const bool turn = at->second.begin == at->first || at->second.begin == begin;
    const std::pair<bool, double> order{turn, (here + 1.0 - before) / (here + 1.0 - after)};
    if (least != kept_.end() && order >= least_order) continue;
    least = at;
    least_order = order;
  }
  return least;
}

MemoryPlan plan_chat(const Model& model, const KvFormat& format, PlanRequest request, std::uint64_t snapshot_budget,
                     bool adopted) {
  constexpr std::uint64_t most = 1 << 30;
  request.snapshots = 1;
  const std::uint64_t one = std::max<std::uint64_t>(model.plan(format, request).snapshots, 1);
  const std::uint64_t least = adopted ? 1 : 0;
  request.snapshots = static_cast<int>(std::min(std::max(snapshot_budget / one, least), most));
  return model.plan(format, request);
}

}  // namespace tqkv
