#include "runtime/cpu/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/cpu/forward.h"
#include "tqkv/error.h"

namespace tqkv::cpu {
namespace {

class CpuSnapshot final : public Snapshot {
 public:
  CpuSnapshot(const CpuSession* owner, int position, CpuStateSnapshot state)
      : owner_(owner), position_(position), state_(std::move(state)) {}
  int position() const override { return position_; }
  std::uint64_t bytes() const override { return state_.bytes(); }
  const CpuSession* owner() const { return owner_; }
  const CpuStateSnapshot& state() const { return state_; }

 private:
  const CpuSession* owner_;
  int position_;
  CpuStateSnapshot state_;
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

KvFormat checked_format(const CpuEngine& engine, const KvFormat& format) {
  cache::check_format(engine.config(), format);
  return engine.precision() == Precision::f32 ? format.in_f32() : format;
}

}  // namespace

CpuSession::CpuSession(const CpuEngine& engine, const KvFormat& format, const SessionOptions& options)
    : engine_(engine),
      context_(checked_context(engine.config(), options)),
      chunk_(checked_chunk(options, context_)),
      state_(engine.config(), checked_format(engine, format), engine.precision(), options.state),
      watch_(engine.guard()) {}

void CpuSession::check(std::span<const int> ids) const {
  const int vocab = engine_.config().vocab_size;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab)
      throw Error(ErrorKind::input, fmt::format("token {}: id {} is not between 0 and {}", i, ids[i], vocab - 1));
  if (ids.size() > static_cast<std::size_t>(context_ - position_))
    throw Error(ErrorKind::input,
                fmt::format("{} tokens after {} do not fit a context of {}", ids.size(), position_, context_));
}

WorkSize CpuSession::work_size(int rows) const {
  return {engine_.precision(),
          rows,
          1,
          context_,
          engine_.pool().size(),
          cache::widest_vector(engine_.config(), state_.format)};
}

void CpuSession::require_room(int tokens, const WorkSize& work) {
  const std::uint64_t own_logits =
      logits_.capacity() > 0 ? 0 : static_cast<std::uint64_t>(engine_.config().vocab_size) * sizeof(float);
  const std::uint64_t growth = engine_.workspaces().growth(work) + own_logits;
  const bool grows = growth > 0 || cache::pages_for(position_ + tokens) > cache::pages_for(position_);
  if (grows || watch_.due()) {
    const auto pages = [&](int held) {
      return cache::cache_bytes(engine_.config(), state_.format, held, state_.type).kv_allocated;
    };
    const std::uint64_t after = pages(position_ + tokens);
    watch_.require(after - std::min(after, pages(position_)) + growth, position_, tokens);
  }
  state_.reserve(position_ + tokens);
}

Segment CpuSession::segment(std::span<const int> ids) {
  logits_.clear();
  return {&state_, ids, position_, observer_};
}

void CpuSession::added(std::span<const int> ids) {
  position_ += static_cast<int>(ids.size());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
}

std::span<const float> CpuSession::prefill(std::span<const int> ids, const PrefillOptions& options) {
  if (ids.empty()) throw Error(ErrorKind::input, "prefill: there are no tokens");
  check(ids);
  for (std::size_t done = 0; done < ids.size();) {
    const auto piece = ids.subspan(done, std::min(ids.size() - done, static_cast<std::size_t>(chunk_)));
    const int rows = static_cast<int>(piece.size());
    require_room(rows, work_size(rows));
    const auto work = engine_.workspaces().borrow(work_size(chunk_), work_size(rows));
    const Batch batch({segment(piece)});
    Forward forward(engine_, *work, batch);
    forward.run();
    added(piece);
    if (options.rows) {
      std::vector<int> wanted;
      for (int row = std::max(0, options.first_row - static_cast<int>(done)); row < rows; ++row) wanted.push_back(row);
      forward.logits(
          wanted, [&](int row, std::span<const float> logits) { options.rows(row + static_cast<int>(done), logits); });
    }
    done += piece.size();
    if (options.progress && !options.progress(static_cast<int>(done)) && done < ids.size()) return {};
    if (done == ids.size()) forward.logits(rows - 1, logits_room().data());
  }
  return logits_;
}

std::span<const float> CpuSession::decode(int id) {
  return prefill({&id, 1}, {});
}

std::span<float> CpuSession::logits_room() {
  logits_.resize(static_cast<std::size_t>(engine_.config().vocab_size));
  return logits_;
}

std::span<const float> CpuSession::logits() const {
  return logits_;
}

std::unique_ptr<Snapshot> CpuSession::snapshot() const {
  return std::make_unique<CpuSnapshot>(this, position_, state_.snapshot());
}

void CpuSession::restore(const Snapshot& snapshot) {
  const auto* own = dynamic_cast<const CpuSnapshot*>(&snapshot);
  if (!own || own->owner() != this || own->position() > position_)
    throw Error(ErrorKind::internal, "restore: the snapshot is not of this session's past");
  position_ = own->position();
  ids_.resize(static_cast<std::size_t>(position_));
  logits_.clear();
  state_.restore(own->state(), position_);
}

CacheReport CpuSession::cache() const {
  CacheReport report;
  report.format = state_.format;
  report.state = state_.type;
  report.tokens = position_;
  report.encode_s = state_.encode_seconds;
  report.activations = engine_.precision() == Precision::fast ? state_.activations : ActivationBits{32, 32};
  for (const auto& cache : state_.caches)
    report.layers.push_back({cache.layer, cache.keys.format(), cache.values.format()});
  report.bytes = state_.bytes(position_);
  return report;
}

}  // namespace tqkv::cpu
