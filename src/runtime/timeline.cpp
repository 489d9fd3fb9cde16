#include "runtime/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "cache/accounting.h"
#include "tqkv/error.h"
#include "tqkv/sampling.h"

namespace tqkv {
namespace {

class TimelineSnapshot final : public Snapshot {
 public:
  TimelineSnapshot(const Timeline* owner, int position, std::size_t cuts, std::unique_ptr<DeviceSnapshot> state)
      : owner_(owner), position_(position), cuts_(cuts), state_(std::move(state)) {}
  int position() const override { return position_; }
  std::uint64_t bytes() const override { return state_->bytes(); }
  const Timeline* owner() const { return owner_; }
  std::size_t cuts() const { return cuts_; }
  const DeviceSnapshot& state() const { return *state_; }

 private:
  const Timeline* owner_;
  int position_;
  std::size_t cuts_;  // that the session had been through
  std::unique_ptr<DeviceSnapshot> state_;
};

int checked_context(const ModelConfig& config, const SessionOptions& options) {
  const int native = config.max_position_embeddings;
  if (options.context < 0 || options.context > native)
    throw Error(ErrorKind::usage,
                fmt::format("context: {} tokens; the model accepts 1 to {}", options.context, native));
  return options.context == 0 ? native : options.context;
}

int checked_chunk(const SessionOptions& options, int context) {
  if (options.prefill_chunk < 1 || options.prefill_chunk > 65536)
    throw Error(ErrorKind::usage,
                fmt::format("prefill chunk: {} tokens is not between 1 and 65536", options.prefill_chunk));
  return std::min(options.prefill_chunk, context);
}

KvFormat checked_format(const DeviceEngine& engine, const KvFormat& format) {
  cache::check_format(engine.config(), format);
  return cache::as_stored(format, engine.precision());
}

}  // namespace

void check_cuts(const Pieces& pieces, std::size_t ids, std::string_view what) {
  const auto ascends = [](std::span<const int> all) {
    return std::adjacent_find(all.begin(), all.end(), std::greater_equal<>()) == all.end();
  };
  const int count = static_cast<int>(ids);
  const auto is_end = [&](int at) { return at == count || std::ranges::find(pieces.ends, at) != pieces.ends.end(); };
  if (!ascends(pieces.ends) || !ascends(pieces.kept) ||
      (!pieces.ends.empty() && (pieces.ends.front() < 1 || pieces.ends.back() >= count)) ||
      !std::ranges::all_of(pieces.kept, is_end) || (!pieces.kept.empty() && !pieces.keep))
    throw Error(ErrorKind::internal, fmt::format("{}: the cuts are not those of {} ids", what, count));
}

int Pieces::next_pass(int ids, int done, int most) const {
  constexpr int fewest_together = 4;
  const auto end_after = [&](int from) {
    const auto cut = std::upper_bound(ends.begin(), ends.end(), from);
    return cut == ends.end() ? ids : *cut;
  };
  int end = std::min(end_after(done), done + most);
  if (end < end_after(done) || end - done < fewest_together) return end - done;
  while (end < ids) {
    const int next = end_after(end);
    if (next - end < fewest_together || next - done > most) break;
    end = next;
  }
  return end - done;
}

Timeline::Timeline(const DeviceEngine& engine, const KvFormat& format, const SessionOptions& options)
    : Timeline(engine, engine.make_state(checked_format(engine, format), options.state), options) {}

Timeline::Timeline(const DeviceEngine& engine, std::unique_ptr<DeviceState> state, const SessionOptions& options)
    : engine_(engine),
      context_(checked_context(engine.config(), options)),
      chunk_(checked_chunk(options, context_)),
      state_(std::move(state)),
      watch_(engine.guard()) {}

void Timeline::check(std::span<const int> ids, std::string_view what) const {
  if (ids.empty()) throw Error(ErrorKind::input, fmt::format("{}: there are no tokens", what));
  const int vocab = engine_.config().vocab_size;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab)
      throw Error(ErrorKind::input, fmt::format("token {}: id {} is not between 0 and {}", i, ids[i], vocab - 1));
  if (ids.size() > static_cast<std::size_t>(context_ - position_))
    throw Error(ErrorKind::input,
                fmt::format("{} tokens after {} do not fit a context of {}", ids.size(), position_, context_));
}

Piece Timeline::piece(std::span<const int> ids) {
  Piece piece;
  piece.state = state_.get();
  piece.ids = ids;
  piece.position = position_;
  piece.context = context_;
  piece.chunk = chunk_;
  piece.observer = observer_;
  return piece;
}

Timeline::Part Timeline::part(std::span<const int> ids, const Pieces& cuts, int done) {
  Part part;
  const int count = static_cast<int>(ids.size());
  for (int begin = 0; begin < count;) {
    const auto cut = std::upper_bound(cuts.ends.begin(), cuts.ends.end(), done + begin);
    const int end = cut == cuts.ends.end() ? count : std::min(*cut - done, count);
    part.pieces.push_back(piece(ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin))));
    part.pieces.back().position = position_ + begin;
    begin = end;
  }
  part.kept.resize(part.pieces.size());
  for (std::size_t i = 0; i < part.pieces.size(); ++i) {
    const Piece& one = part.pieces[i];
    const int end = done + one.position - position_ + static_cast<int>(one.ids.size());
    if (std::binary_search(cuts.kept.begin(), cuts.kept.end(), end)) part.pieces[i].keep = &part.kept[i];
  }
  return part;
}

std::uint64_t Timeline::require_room(std::span<const Piece> pieces, std::size_t own_pieces, std::uint64_t promised) {
  const std::span<const Piece> mine = pieces.last(own_pieces);
  const int position = mine.front().position;
  const int tokens = mine.back().position + static_cast<int>(mine.back().ids.size()) - position;
  std::uint64_t own =
      logits_.capacity() > 0 ? 0 : static_cast<std::uint64_t>(engine_.config().vocab_size) * sizeof(float);
  if (cache::pages_for(position + tokens) > cache::pages_for(position)) {
    const std::uint64_t now = state_->kv_bytes(position), after = state_->kv_bytes(position + tokens);
    own += after - std::min(after, now);
  }
  const std::uint64_t growth = engine_.growth(pieces) + own;
  if (growth > 0 || watch_.due()) watch_.require(growth + promised, position, tokens);
  state_->reserve(position + tokens);
  return own;
}

float* Timeline::begin(bool wants_logits) {
  has_logits_ = false;
  wants_logits_ = wants_logits;
  if (!wants_logits) return nullptr;
  logits_.resize(static_cast<std::size_t>(engine_.config().vocab_size));
  return logits_.data();
}

void Timeline::added(std::span<const int> ids) {
  position_ += static_cast<int>(ids.size());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  has_logits_ = wants_logits_;
}

void Timeline::added(Part& part, const Pieces& cuts) {
  for (std::size_t i = 0; i < part.pieces.size(); ++i) {
    added(part.pieces[i].ids);
    if (part.kept[i])
      cuts.keep(std::make_unique<TimelineSnapshot>(this, position_, cut_count_, std::move(part.kept[i])));
  }
}

std::span<const float> Timeline::logits() const {
  return has_logits_ ? std::span<const float>(logits_) : std::span<const float>();
}

std::span<const float> Timeline::prefill(std::span<const int> ids, const PrefillOptions& options) {
  check(ids, "prefill");
  check_cuts(options.pieces, ids.size(), "prefill");
  const int total = static_cast<int>(ids.size());
  for (int done = 0; done < total;) {
    const int next = options.pieces.next_pass(total, done, chunk_);
    Part own = part(ids.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(next)), options.pieces, done);
    std::vector<std::function<void(int, std::span<const float>)>> rows;  // of the pieces
    rows.reserve(own.pieces.size());
    for (Piece& piece : own.pieces) {
      if (!options.rows) break;
      const int first = done + piece.position - position_;
      rows.emplace_back(
          [&options, first](int row, std::span<const float> logits) { options.rows(row + first, logits); });
      piece.rows = &rows.back();
      piece.first_row = std::max(0, options.first_row - first);
    }
    require_room(own.pieces, own.pieces.size());
    own.pieces.back().last_logits = begin(done + next == total);
    if (!engine_.pass(own.pieces, options.stop)) return {};
    added(own, options.pieces);
    done += next;
    if (options.progress && !options.progress(done) && done < total) return {};
  }
  return logits();
}

std::span<const float> Timeline::decode(int id) {
  return prefill({&id, 1}, {});
}

void Timeline::run(int first, Sampler& sampler, int count, const std::function<bool(int id)>& next) {
  if (count < 1) return;
  check({&first, 1}, "run");
  Piece own = piece({&first, 1});
  const std::unique_ptr<AheadRun> ahead = observer_ ? nullptr : engine_.run_ahead(own, sampler);
  if (!ahead) return Session::run(first, sampler, count, next);
  const int before = position_;
  int id = first, queued = 0;
  std::optional<Error> refused;  // told once the ids before it are read
  const auto queue = [&] {
    own.position = position_ + queued;
    try {
      if (queued == 0) check({&id, 1}, "run");
      require_room({&own, 1});
      ahead->queue();
      ++queued;
    } catch (const Error& error) {
      refused = error;
    }
  };
  for (int drawn = 0; drawn < count; ++drawn) {
    while (!refused && queued < std::min(2, count - drawn) && (queued == 0 || position_ + queued < context_)) queue();
    if (queued == 0) break;
    begin(true);
    const int got = ahead->wait();
    --queued;
    added({&id, 1});
    has_logits_ = false;  // until they are fetched
    id = got;
    if (!next(id)) {
      refused.reset();
      break;
    }
  }
  if (position_ > before) {
    ahead->end(logits_.data());
    has_logits_ = true;
  }
  if (refused) throw *refused;
}

std::unique_ptr<Snapshot> Timeline::snapshot() const {
  return std::make_unique<TimelineSnapshot>(this, position_, cut_count_, state_->snapshot());
}

namespace {

const TimelineSnapshot& own_snapshot(const Timeline& session, const Snapshot& snapshot, std::string_view what) {
  const auto* own = dynamic_cast<const TimelineSnapshot*>(&snapshot);
  if (!own || own->owner() != &session || own->position() > session.kept_since(own->cuts()))
    throw Error(ErrorKind::internal, fmt::format("{}: the snapshot is not of this session's past", what));
  return *own;
}

}  // namespace

int Timeline::kept_since(std::size_t cuts) const {
  const auto first =
      std::find_if(cuts_.begin(), cuts_.end(), [&](const Cut& cut) { return cut.number >= cuts; });  // the deepest
  return first == cuts_.end() ? position_ : std::min(position_, first->position);
}

void Timeline::restore(const Snapshot& snapshot) {
  const TimelineSnapshot& own = own_snapshot(*this, snapshot, "restore");
  position_ = own.position();
  while (!cuts_.empty() && cuts_.back().position >= position_) cuts_.pop_back();
  cuts_.push_back({cut_count_++, position_});
  ids_.resize(static_cast<std::size_t>(position_));
  has_logits_ = false;
  state_->restore(own.state(), position_);
}

std::unique_ptr<Timeline> Timeline::fork(const Snapshot& snapshot, const SessionOptions& options) const {
  const TimelineSnapshot& own = own_snapshot(*this, snapshot, "fork");
  const int position = own.position();
  if (options.context > 0 && position > options.context)
    throw Error(ErrorKind::input, fmt::format("fork: {} tokens do not fit a context of {}", position, options.context));
  auto forked = std::make_unique<Timeline>(engine_, state_->fork(own.state(), position), options);
  forked->position_ = position;
  forked->ids_.assign(ids_.begin(), ids_.begin() + position);
  if (position == position_ && has_logits_) {
    forked->logits_ = logits_;
    forked->has_logits_ = true;
  }
  return forked;
}

CacheReport Timeline::cache() const {
  return state_->report(position_);
}

}  // namespace tqkv
