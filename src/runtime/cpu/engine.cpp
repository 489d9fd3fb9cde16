#include "runtime/cpu/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/processor.h"
#include "cache/accounting.h"
#include "cache/session/fingerprint.h"
#include "runtime/cpu/forward.h"
#include "runtime/cpu/session.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

namespace tqkv {

std::unique_ptr<Engine> Engine::load(Checkpoint checkpoint, const DeviceOptions& options) {
  return std::make_unique<cpu::CpuEngine>(std::move(checkpoint), options);
}

std::string_view name(Precision precision) {
  return precision == Precision::fast ? "fast" : "f32";
}
std::string_view name(StateType type) {
  return type == StateType::f32 ? "f32" : "bf16";
}

}  // namespace tqkv

namespace tqkv::cpu {
namespace {

std::string where_config_is(const Checkpoint& checkpoint) {
  return (checkpoint.directory() / "config.json").string();
}

std::string read_config(const Checkpoint& checkpoint) {
  auto text = checkpoint.text("config.json");
  if (!text)
    throw Error(ErrorKind::checkpoint,
                fmt::format("{}: there is no such file: not a model directory", where_config_is(checkpoint)));
  return std::move(*text);
}

// [channels, kernel] as stored to [kernel, channels]: a tap's weights lie side by side.
std::vector<float> tap_major(const Vector& conv, int kernel) {
  const int channels = conv.size / kernel;
  std::vector<float> out(static_cast<std::size_t>(conv.size));
  for (int channel = 0; channel < channels; ++channel)
    for (int tap = 0; tap < kernel; ++tap)
      out[static_cast<std::size_t>(tap * channels + channel)] = conv.element(channel * kernel + tap);
  return out;
}

// The matrices in the order of their use, but the embedding, of which a token takes a row.
std::vector<std::span<const std::byte>> in_order_of_use(const Weights& weights) {
  std::vector<std::span<const std::byte>> ranges;
  const auto add = [&](const Matrix& matrix) {
    if (!matrix.weight) return;
    const auto rows = static_cast<std::size_t>(matrix.count) * static_cast<std::size_t>(matrix.out);
    ranges.emplace_back(matrix.weight, rows * matrix.row_bytes());
    if (!matrix.quantized()) return;
    for (const std::byte* side : {matrix.scales, matrix.biases})
      ranges.emplace_back(side, rows * static_cast<std::size_t>(matrix.in / Matrix::group) * 2);
  };
  for (const auto& layer : weights.layers) {
    const auto& attention = layer.attention;
    const auto& delta = layer.delta;
    for (const Matrix* matrix : {&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj,
                                 &delta.in_proj_qkv, &delta.in_proj_z, &delta.in_proj_b, &delta.in_proj_a,
                                 &delta.out_proj, &layer.router, &layer.shared_expert_gate})
      add(*matrix);
    for (const MlpWeights* mlp : {&layer.mlp, &layer.experts, &layer.shared_expert})
      for (const Matrix* matrix : {&mlp->gate_proj, &mlp->up_proj, &mlp->down_proj}) add(*matrix);
  }
  add(weights.lm_head);
  return ranges;
}

}  // namespace

CpuEngine::CpuEngine(Checkpoint checkpoint, const DeviceOptions& options)
    : checkpoint_(std::move(checkpoint)),
      config_json_(read_config(checkpoint_)),
      config_(ModelConfig::parse(config_json_, where_config_is(checkpoint_))),
      weights_(bind_weights(checkpoint_, config_)),
      kernels_(&cpu::kernels(options.isa)),
      precision_(options.precision),
      guard_(options.guard) {
  if (options.threads < 0 || options.threads > max_threads)
    throw Error(ErrorKind::usage,
                fmt::format("threads: {} is not between 1 and {} (0 uses all cores)", options.threads, max_threads));
  final_norm_ = weights_.norm.to_f32();
  for (const auto& layer : weights_.layers) {
    LayerVectors vectors;
    vectors.input_layernorm = layer.input_layernorm.to_f32();
    vectors.post_attention_layernorm = layer.post_attention_layernorm.to_f32();
    if (layer.kind == LayerKind::full_attention) {
      vectors.q_norm = layer.attention.q_norm.to_f32();
      vectors.k_norm = layer.attention.k_norm.to_f32();
    } else {
      vectors.conv1d = tap_major(layer.delta.conv1d, config_.linear_conv_kernel_dim);
      vectors.negative_exp_A = layer.delta.A_log.to_f32();
      for (auto& value : vectors.negative_exp_A) value = -std::exp(value);
      vectors.dt_bias = layer.delta.dt_bias.to_f32();
      vectors.norm = layer.delta.norm.to_f32();
    }
    vectors_.push_back(std::move(vectors));
  }
  rotary_ = rotary_angles(config_);
  read_ahead_ = std::make_unique<ReadAhead>(in_order_of_use(weights_));
  pool_ = std::make_unique<ThreadPool>(options.threads > 0 ? options.threads : available_cores());
  weight_check_ = std::make_unique<WeightCheck>(checkpoint_, weights_, *pool_);
  weight_check_->at_load();
  workspaces_ = std::make_unique<Workspaces>(config_, *kernels_);
}

std::unique_ptr<Session> CpuEngine::open(const KvFormat& format, const SessionOptions& options) const {
  return std::make_unique<CpuSession>(*this, format, options);
}

std::unique_ptr<Session> CpuEngine::restore(const SavedSession& saved, const SessionOptions& options) const {
  const SessionIdentity& identity = saved.identity();
  const std::string where = saved.path().string();
  if (identity.precision != precision_)
    throw Error(ErrorKind::session, fmt::format("{}: was computed with {} precision, and this engine has {}: load the "
                                                "model with the precision of the session",
                                                where, name(identity.precision), name(precision_)));
  if (identity.model != fingerprint())
    throw Error(ErrorKind::session,
                fmt::format("{}: is a session of another model: its fingerprint is {}, that of {} "
                            "is {}",
                            where, identity.model, checkpoint_.directory().string(), fingerprint()));
  SessionOptions own = options;
  own.state = identity.state;
  if (own.context > 0 && saved.tokens() > own.context)
    throw Error(ErrorKind::input, fmt::format("{}: contains {} tokens, but the context is {}: give a larger one", where,
                                              saved.tokens(), own.context));
  auto session = std::make_unique<CpuSession>(*this, identity.format, own);
  session->load(saved);
  return session;
}

// Each session's part of the pass is checked by itself; those that are refused have no rows in it.
void CpuEngine::step(std::span<Work> all) const {
  struct Part {
    Work* work;
    CpuSession* session;
    const CpuState* state;
  };
  std::vector<Part> parts;
  std::vector<Segment> segments;
  WorkSize room{precision_, 0, 0, 0, pool_->size(), 0}, used = room;
  for (Work& work : all) {
    work.error.reset();
    work.logits = {};
    try {
      auto* session = dynamic_cast<CpuSession*>(work.session);
      if (!session || &session->engine() != this)
        throw Error(ErrorKind::internal, "step: the session is not of this engine");
      if (std::any_of(parts.begin(), parts.end(), [&](const Part& part) { return part.session == session; }))
        throw Error(ErrorKind::internal, "step: the session is there twice");
      if (work.ids.empty()) throw Error(ErrorKind::input, "step: there are no tokens");
      if (work.ids.size() > static_cast<std::size_t>(session->chunk()))
        throw Error(ErrorKind::input,
                    fmt::format("step: {} tokens are more than a pass takes: {}", work.ids.size(), session->chunk()));
      session->check(work.ids);
      const int rows = static_cast<int>(work.ids.size());
      WorkSize with = larger(used, session->work_size(rows));
      with.chunk = used.chunk + rows;
      with.singles = used.singles + (rows == 1 ? 1 : 0);
      session->require_room(rows, with);
      used = with;
      room = larger(room, session->work_size(session->chunk()));
      segments.push_back(session->segment(work.ids));
      parts.push_back({&work, session, segments.back().state});
    } catch (const Error& error) {
      work.error = error;
    }
  }
  if (parts.empty()) return;
  const auto workspace = workspaces_->borrow(larger(room, used), used);
  const Batch batch(std::move(segments));
  Forward forward(*this, *workspace, batch);
  forward.run();
  std::vector<int> rows;
  std::vector<Part> wanted;  // in the order of rows
  for (const Part& part : parts) {
    part.session->added(part.work->ids);
    if (part.work->want == Want::nothing) continue;
    rows.push_back(batch.segment_of(*part.state).last());
    wanted.push_back(part);
  }
  if (wanted.size() == 1) {
    const std::span<float> logits = wanted.front().session->logits_room();
    forward.logits(rows.front(), logits.data());
    wanted.front().work->logits = logits;
    return;
  }
  std::size_t next = 0;
  forward.logits(rows, [&](int, std::span<const float> logits) {
    const Part& part = wanted[next++];
    const std::span<float> own = part.session->logits_room();
    std::copy(logits.begin(), logits.end(), own.begin());
    part.work->logits = own;
  });
}

const std::string& CpuEngine::fingerprint() const {
  std::call_once(fingerprinted_, [this] { fingerprint_ = cache::model_fingerprint(checkpoint_, config_json_); });
  return fingerprint_;
}

DeviceReport CpuEngine::device() const {
  return {processor_name(), kernels_->isa, pool_->size(), precision_};
}

}  // namespace tqkv::cpu
