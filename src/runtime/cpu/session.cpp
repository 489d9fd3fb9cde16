#include "runtime/cpu/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/float16.h"
#include "runtime/cpu/activation_bits.h"
#include "runtime/cpu/forward.h"
#include "tqkv/error.h"

namespace tqkv::cpu {
namespace {

class CpuSnapshot final : public Snapshot {
 public:
  /// What going back needs of the cache of one attention layer.
  struct Sides {
    SideSnapshot keys, values;
  };
  CpuSnapshot(const CpuSession* owner, int position, std::vector<LayerState> states, std::vector<Sides> sides)
      : owner_(owner), position_(position), states_(std::move(states)), sides_(std::move(sides)) {}
  int position() const override { return position_; }
  std::uint64_t bytes() const override {
    std::uint64_t sum = 0;
    for (const auto& state : states_) sum += state.recurrent.bytes() + state.convolution.bytes();
    for (const auto& layer : sides_) sum += layer.keys.bytes() + layer.values.bytes();
    return sum;
  }
  const CpuSession* owner() const { return owner_; }
  const std::vector<LayerState>& states() const { return states_; }
  const std::vector<Sides>& sides() const { return sides_; }

 private:
  const CpuSession* owner_;
  int position_;
  std::vector<LayerState> states_;
  std::vector<Sides> sides_;
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

void StateArray::load(std::size_t first, std::size_t count, float* out) const {
  if (!bf16_) {
    std::memcpy(out, bytes_.data() + first * 4, count * 4);
    return;
  }
  for (std::size_t i = 0; i < count; ++i)
    out[i] = bf16_to_f32(tqkv::load<std::uint16_t>(bytes_.data() + (first + i) * 2));
}

void StateArray::store(std::size_t first, std::size_t count, const float* values) {
  if (!bf16_) {
    std::memcpy(bytes_.data() + first * 4, values, count * 4);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) tqkv::store(bytes_.data() + (first + i) * 2, f32_to_bf16(values[i]));
}

float* StateArray::f32(std::size_t first) {
  return bf16_ ? nullptr : reinterpret_cast<float*>(bytes_.data()) + first;
}

CpuSession::CpuSession(const CpuEngine& engine, const KvFormat& format, const SessionOptions& options)
    : engine_(engine),
      format_(checked_format(engine, format)),
      context_(checked_context(engine.config(), options)),
      chunk_(checked_chunk(options, context_)),
      state_type_(options.state),
      activations_(activation_bits(format_)),
      work_(engine.config(), work_size(chunk_), engine.kernels()),
      watch_(engine.guard()) {
  const auto& config = engine.config();
  const auto state_size =
      static_cast<std::size_t>(config.value_dim()) * static_cast<std::size_t>(config.linear_key_head_dim);
  const auto conv_size =
      static_cast<std::size_t>(config.linear_conv_kernel_dim - 1) * static_cast<std::size_t>(config.conv_dim());
  for (int layer = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
      const auto sides = format_.sides(layer, static_cast<int>(caches_.size()), config.attention_layers());
      const int heads = config.num_key_value_heads;
      caches_.emplace_back(layer, CacheSide(codec_of(sides.k), heads, format_, layer, true),
                           CacheSide(codec_of(sides.v), heads, format_, layer, false));
    } else {
      states_.push_back({StateArray(state_size, state_type_ == StateType::bf16),
                         StateArray(conv_size, engine.precision() == Precision::fast)});
    }
  }
}

codec::SideCodec CpuSession::codec_of(const SideFormat& format) {
  const int dim = engine_.config().head_dim;
  codec::SideCodec codec = codec::side_codec(format, dim);
  if (codec.signs == 0) return codec;
  for (const auto& matrix : matrices_) {
    if (matrix->rows() == codec.signs && matrix->projection() == format.projection) codec.matrix = matrix.get();
  }
  if (!codec.matrix) {
    matrices_.push_back(std::make_unique<codec::SignMatrix>(format.projection, codec.signs, dim, format_.seed));
    codec.matrix = matrices_.back().get();
  }
  return codec;
}

void CpuSession::check(std::span<const int> ids) const {
  const int vocab = engine_.config().vocab_size;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab)
      throw Error(ErrorKind::input, fmt::format("token {}: id {} is not between 0 and {}", i, ids[i], vocab - 1));
  if (ids.size() > static_cast<std::size_t>(context_ - position_))
    throw Error(ErrorKind::input,
                fmt::format("{} tokens after {} do not fit a context of {}", ids.size(), position_, context_));
}

WorkSize CpuSession::work_size(int chunk) const {
  return {engine_.precision(), chunk, context_, engine_.pool().size(), cache::widest_vector(engine_.config(), format_)};
}

void CpuSession::require_room(int tokens) {
  const bool grows = tokens > touched_ || cache::pages_for(position_ + tokens) > cache::pages_for(position_);
  if (!grows && !watch_.due()) return;
  const auto& config = engine_.config();
  const auto pages = [&](int held) { return cache::cache_bytes(config, format_, held, state_type_).kv_allocated; };
  std::uint64_t need = pages(position_ + tokens);
  need -= std::min(need, pages(position_));
  if (tokens > touched_) {
    need += scratch_bytes(config, work_size(tokens));
    if (touched_ > 0) need -= scratch_bytes(config, work_size(touched_));
  }
  watch_.require(need, position_, tokens);
  touched_ = std::max(touched_, tokens);
}

std::span<const float> CpuSession::prefill(std::span<const int> ids, const PrefillOptions& options) {
  if (ids.empty()) throw Error(ErrorKind::input, "prefill: there are no tokens");
  check(ids);
  Forward forward(*this);
  for (std::size_t done = 0; done < ids.size();) {
    const std::size_t count = std::min(ids.size() - done, static_cast<std::size_t>(chunk_));
    require_room(static_cast<int>(count));
    has_logits_ = false;
    forward.run(ids.subspan(done, count));
    if (options.rows) {
      const int first = std::max(0, options.first_row - static_cast<int>(done));
      forward.logits(first, static_cast<int>(count), [&](int row, std::span<const float> logits) {
        options.rows(row + static_cast<int>(done), logits);
      });
    }
    done += count;
    if (options.progress && !options.progress(static_cast<int>(done)) && done < ids.size()) return {};
    if (done == ids.size()) return keep_logits(forward.last_logits());
  }
  return {};
}

std::span<const float> CpuSession::decode(int id) {
  check({&id, 1});
  require_room(1);
  has_logits_ = false;
  Forward forward(*this);
  forward.run({&id, 1});
  return keep_logits(forward.last_logits());
}

std::span<const float> CpuSession::keep_logits(std::span<const float> logits) {
  has_logits_ = true;
  return logits;
}

std::span<const float> CpuSession::logits() const {
  if (!has_logits_) return {};
  return {work_.logits, static_cast<std::size_t>(engine_.config().vocab_size)};
}

std::unique_ptr<Snapshot> CpuSession::snapshot() const {
  std::vector<CpuSnapshot::Sides> sides;
  for (const auto& cache : caches_) sides.push_back({snapshot_of(cache.keys), snapshot_of(cache.values)});
  return std::make_unique<CpuSnapshot>(this, position_, states_, std::move(sides));
}

void CpuSession::restore(const Snapshot& snapshot) {
  const auto* own = dynamic_cast<const CpuSnapshot*>(&snapshot);
  if (!own || own->owner() != this || own->position() > position_)
    throw Error(ErrorKind::internal, "restore: the snapshot is not of this session's past");
  position_ = own->position();
  ids_.resize(static_cast<std::size_t>(position_));
  has_logits_ = false;
  states_ = own->states();
  for (std::size_t i = 0; i < caches_.size(); ++i) {
    cpu::restore(caches_[i].keys, own->sides()[i].keys, position_);
    cpu::restore(caches_[i].values, own->sides()[i].values, position_);
  }
}

CacheReport CpuSession::cache() const {
  CacheReport report;
  report.format = format_;
  report.state = state_type_;
  report.tokens = position_;
  report.encode_s = encode_seconds_;
  report.activations = engine_.precision() == Precision::fast ? activations_ : ActivationBits{32, 32};
  for (const auto& cache : caches_) {
    report.layers.push_back({cache.layer, cache.keys.format(), cache.values.format()});
    report.bytes.kv_used += cache.keys.used_bytes(position_) + cache.values.used_bytes(position_);
    report.bytes.kv_allocated += cache.keys.allocated_bytes() + cache.values.allocated_bytes();
  }
  for (const auto& state : states_) {
    report.bytes.recurrent += state.recurrent.bytes();
    report.bytes.convolution += state.convolution.bytes();
  }
  return report;
}

}  // namespace tqkv::cpu
