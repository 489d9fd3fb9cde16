#include "runtime/mlx/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "model/weights.h"
#include "runtime/mlx/device.h"
#include "runtime/mlx/draw.h"
#include "runtime/mlx/forward.h"
#include "runtime/mlx/self_test.h"
#include "runtime/mlx/state.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

constexpr int logit_rows = 128;  // computed at once

mx::array angles(const std::vector<float>& values, int tokens) {
  return mx::array(values.begin(), {tokens, static_cast<int>(values.size()) / tokens}, mx::float32);
}

Pass pass_of(const MlxEngine& engine, std::span<const Piece> pieces, const std::atomic<bool>* stop = nullptr) {
  std::vector<float> cosine, sine;
  std::vector<Segment> segments;
  const std::size_t half = engine.rotary().inverse_frequency.size();
  int rows = 0;
  for (const Piece& piece : pieces) {
    const int count = static_cast<int>(piece.ids.size());
    MlxSnapshot* keep = nullptr;
    if (piece.keep) {
      auto kept = std::make_unique<MlxSnapshot>();
      keep = kept.get();
      *piece.keep = std::move(kept);
    }
    segments.push_back({dynamic_cast<MlxState*>(piece.state), rows, count, piece.position, piece.observer, keep});
    rows += count;
    for (int i = 0; i < count; ++i) {
      cosine.resize(cosine.size() + half);
      sine.resize(sine.size() + half);
      engine.rotary().at(piece.position + i, cosine.data() + cosine.size() - half, sine.data() + sine.size() - half);
    }
  }
  return {engine, engine.config(), std::move(segments), angles(cosine, rows), angles(sine, rows), stop};
}

Paths paths_of(const DeviceOptions& options) {
  if (on_processor()) return {{}, "kernels are for a GPU"};
  if (options.device.value("kernels") == "off") return {{}, "kernels are off"};
  return {run_on_metal, ""};
}

/// A pass takes `bytes` beside what is there. What MLX keeps of arrays that were let go, for the next ones of their
/// size, is no more than that; and beyond what was planned it waits for steps under way before it takes more.
void limit_memory(std::uint64_t bytes) {
  mx::set_cache_limit(bytes);
  mx::set_memory_limit(mx::get_active_memory() + bytes);
}

/// Rows of `hidden` -> logits.
mx::array logits_of(const MlxEngine& engine, const mx::array& hidden) {
  const mx::array logits = engine.arrays().lm_head(rms_norm(engine.config(), hidden, engine.arrays().norm));
  return mx::contiguous(mx::astype(logits, mx::float32));
}

[[noreturn]] void refuse_logits(const MlxEngine& engine) {
  throw Error(ErrorKind::checkpoint,
              fmt::format("{}: the model computes logits that are not finite: its weights are not those of a "
                          "trained model",
                          engine.checkpoint().directory().string()));
}

mx::array ids_of(std::span<const Piece> pieces) {
  std::vector<int> ids;
  for (const Piece& piece : pieces) ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  return mx::array(ids.begin(), {static_cast<int>(ids.size())}, mx::int32);
}

/// Row `row` of the pass belongs to `to`.
struct Wanted {
  int row;
  std::function<void(std::span<const float>)> to;
};

std::vector<Wanted> wanted_rows(const Pass& pass, std::span<const Piece> pieces) {
  std::vector<Wanted> wanted;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    const Segment& segment = pass.segments[i];
    if (piece.rows) {
      for (int row = piece.first_row; row < segment.count; ++row)
        wanted.push_back(
            {segment.first + row, [&piece, row](std::span<const float> logits) { (*piece.rows)(row, logits); }});
    }
    if (piece.last_logits)
      wanted.push_back({segment.first + segment.count - 1, [&piece](std::span<const float> logits) {
                          std::copy(logits.begin(), logits.end(), piece.last_logits);
                        }});
  }
  return wanted;
}

/// Everything that a later step reads.
std::vector<mx::array> states_of(const Pass& pass) {
  std::vector<mx::array> all;
  for (const Segment& segment : pass.segments) {
    for (const AttentionCache& cache : segment.state->caches) {
      cache.keys.add_arrays(all);
      cache.values.add_arrays(all);
    }
    const auto add = [&](const std::vector<LinearState>& states) {
      for (const LinearState& state : states) {
        all.push_back(state.recurrent);
        all.push_back(state.convolution);
      }
    };
    add(segment.state->states);
    if (!segment.keep) continue;
    add(segment.keep->states);
    for (const MlxSnapshot::Sides& sides : segment.keep->sides) {
      sides.keys.add_arrays(all);
      sides.values.add_arrays(all);
    }
  }
  return all;
}

void put_back(const Pass& pass, std::span<const MlxState::Mark> before) {
  for (std::size_t i = 0; i < before.size(); ++i) pass.segments[i].state->go_back(before[i]);
}

class MlxAheadRun final : public AheadRun {
 public:
  MlxAheadRun(const MlxEngine& engine, const Piece& first, const Sampler& sampler)
      : engine_(engine),
        state_(dynamic_cast<MlxState&>(*first.state)),
        position_(first.position),
        id_(first.ids.front()) {
    engine.thread().run([&] {
      draw_.emplace(sampler);
      limit_memory(engine.growth({&first, 1}));
    });
  }
  ~MlxAheadRun() override {
    engine_.thread().run([&] {
      try {
        take_back();
      } catch (...) {  // of a GPU that computes no more: the error has been told
      }
      steps_.clear();
      last_logits_.reset();
      draw_.reset();
    });
  }
  MlxAheadRun(const MlxAheadRun&) = delete;
  MlxAheadRun& operator=(const MlxAheadRun&) = delete;

  void queue() override {
    engine_.thread().run([&] {
      Step step{position_, state_.mark(), {}, {}};
      try {
        Piece piece;
        piece.state = &state_;
        piece.ids = {&id_, 1};
        piece.position = position_;
        const Pass pass = pass_of(engine_, {&piece, 1});
        const mx::array hidden = forward(pass, steps_.empty() ? ids_of({&piece, 1}) : *steps_.back().id);
        step.logits = mx::reshape(logits_of(engine_, hidden), {engine_.config().vocab_size});
        step.id = (*draw_)(*step.logits, static_cast<std::uint64_t>(position_) + 1);
        std::vector<mx::array> all = states_of(pass);
        all.push_back(*step.logits);
        all.push_back(*step.id);
        mx::async_eval(all);
      } catch (...) {
        state_.go_back(step.before);
        throw;
      }
      steps_.push_back(std::move(step));
      ++position_;
    });
  }

  int wait() override {
    engine_.thread().run([&] {
      Step& step = steps_.front();
      step.id->eval();
      id_ = step.id->item<int>();
      if (id_ < 0) refuse_logits(engine_);
      last_logits_ = step.logits;
      steps_.pop_front();
    });
    return id_;
  }

  void end(float* logits) override {
    engine_.thread().run([&] {
      take_back();
      if (!last_logits_) return;
      last_logits_->eval();
      std::copy_n(last_logits_->data<float>(), last_logits_->size(), logits);
    });
  }

 private:
  struct Step {
    int position;
    MlxState::Mark before;
    std::optional<mx::array> logits, id;
  };

  void take_back() {
    if (steps_.empty()) return;
    state_.go_back(steps_.front().before);
    position_ = steps_.front().position;
    steps_.clear();
  }

  const MlxEngine& engine_;
  MlxState& state_;
  int position_;  // of the next step
  int id_;        // drawn last
  std::optional<Draw> draw_;
  std::deque<Step> steps_;  // not waited for
  std::optional<mx::array> last_logits_;
};

}  // namespace

MlxEngine::MlxEngine(Checkpoint a_checkpoint, const DeviceOptions& options)
    : MlxEngine(std::move(a_checkpoint), options, paths_of(options), mlx::precision(options)) {}

MlxEngine::MlxEngine(Checkpoint a_checkpoint, const DeviceOptions& options, Paths paths, Precision precision)
    : DeviceEngine(std::move(a_checkpoint), precision, options.guard),
      report_(mlx_kind().report(options)),
      paths_(std::move(paths)),
      rotary_(rotary_angles(config())) {
  const Weights weights = bind_weights(checkpoint(), config());
  thread_.run([&] {
    if (const std::string failed = require_self_test(options.force); !failed.empty())
      report_.warning = "the self-test failed, and the run was forced: " + failed;
    if (report_.device.value("wired") == "on") mx::set_wired_limit(working_set());
    arrays_ =
        copy_weights(config(), weights, precision == Precision::f32 ? mx::float32 : mx::bfloat16, options.progress);
  });
}

MlxEngine::~MlxEngine() {
  thread_.run([&] { arrays_.reset(); });
}

DeviceReport MlxEngine::device() const {
  DeviceReport report = report_;
  const auto add = [](std::string& text, const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
  for (const auto& [step, how] : paths_.steps()) add(report.steps, fmt::format("{}: {}", step, how));
  for (const std::string& warning : paths_.warnings()) add(report.warning, warning);
  return report;
}

std::unique_ptr<DeviceState> MlxEngine::make_state(const KvFormat& format, StateType type) const {
  return std::make_unique<MlxState>(thread_, paths_, config(), format, type, precision());
}

std::uint64_t MlxEngine::growth(std::span<const Piece> pieces) const {
  PassSize size{0, 1, 0, false};
  for (const Piece& piece : pieces) {
    size.rows += static_cast<int>(piece.ids.size());
    size.context = std::max(size.context, piece.position + static_cast<int>(piece.ids.size()));
    size.every_row = size.every_row || piece.rows != nullptr;
  }
  return pass_bytes(config(), size);
}

bool MlxEngine::pass(std::span<const Piece> pieces, const std::atomic<bool>* stop) const {
  bool whole = true;
  thread_.run([&] {
    const Pass pass = pass_of(*this, pieces, stop);
    limit_memory(growth(pieces));
    // Arrays are computed late, and an error with them: what was there before is put back then.
    std::vector<MlxState::Mark> before;
    for (const Segment& segment : pass.segments) before.push_back(segment.state->mark());
    try {
      const mx::array hidden = forward(pass, ids_of(pieces));
      const std::vector<Wanted> wanted = wanted_rows(pass, pieces);
      mx::eval(states_of(pass));
      if (hidden.shape(0) >= logit_rows) mx::clear_cache();  // a prompt's arrays are of no use to a decoded token
      for (std::size_t first = 0; first < wanted.size(); first += logit_rows) {
        const std::size_t last = std::min(wanted.size(), first + logit_rows);
        std::vector<int> rows;
        for (std::size_t i = first; i < last; ++i) rows.push_back(wanted[i].row);
        const mx::array of(rows.begin(), {static_cast<int>(rows.size())}, mx::int32);
        mx::array logits = logits_of(*this, mx::take(hidden, of, 0));
        logits.eval();
        const auto vocab = static_cast<std::size_t>(config().vocab_size);
        for (std::size_t i = first; i < last; ++i) {
          const std::span<const float> row(logits.data<float>() + (i - first) * vocab, vocab);
          if (!std::all_of(row.begin(), row.end(), [](float value) { return std::isfinite(value); }))
            refuse_logits(*this);
          wanted[i].to(row);
        }
      }
    } catch (const Stopped&) {
      put_back(pass, before);
      whole = false;
    } catch (...) {
      put_back(pass, before);
      throw;
    }
  });
  return whole;
}

std::unique_ptr<AheadRun> MlxEngine::run_ahead(const Piece& first, const Sampler& sampler) const {
  if (!sampler.plain()) return nullptr;  // what it draws depends on ids that are not read yet, or on more than logits
  return std::make_unique<MlxAheadRun>(*this, first, sampler);
}

void MlxEngine::run_tasks(int count, const std::function<void(int)>& task) const {
  thread_.run([&] {
    for (int i = 0; i < count; ++i) task(i);
  });
}

}  // namespace tqkv::mlx
