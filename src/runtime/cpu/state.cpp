#include "runtime/cpu/state.h"

#include <cstring>

#include "base/float16.h"
#include "codec/sign_matrix.h"
#include "runtime/cpu/activation_bits.h"

namespace tqkv::cpu {

void StateArray::load(int row, int first, int count, float* out) const {
  const auto begin = at(row, first), size = static_cast<std::size_t>(count);
  if (!bf16_) {
    std::memcpy(out, bytes_.data() + begin * 4, size * 4);
    return;
  }
  for (std::size_t i = 0; i < size; ++i)
    out[i] = bf16_to_f32(tqkv::load<std::uint16_t>(bytes_.data() + (begin + i) * 2));
}

void StateArray::store(int row, int first, int count, const float* values) {
  const auto begin = at(row, first), size = static_cast<std::size_t>(count);
  if (!bf16_) {
    std::memcpy(bytes_.data() + begin * 4, values, size * 4);
    return;
  }
  for (std::size_t i = 0; i < size; ++i) tqkv::store(bytes_.data() + (begin + i) * 2, f32_to_bf16(values[i]));
}

float* StateArray::f32(int row) {
  return bf16_ ? nullptr : reinterpret_cast<float*>(bytes_.data()) + at(row, 0);
}

void StateArray::copy(const StateArray& from, int row, int first, int count) {
  const std::size_t size = bf16_ ? 2 : 4, begin = at(row, first) * size;
  std::memcpy(bytes_.data() + begin, from.bytes_.data() + begin, static_cast<std::size_t>(count) * size);
}

std::uint64_t CpuSnapshot::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& state : states) sum += state.recurrent.bytes() + state.convolution.bytes();
  for (const auto& layer : sides) sum += layer.keys.bytes() + layer.values.bytes();
  return sum;
}

CpuState::CpuState(const ModelConfig& a_config, const KvFormat& format, Precision a_precision, StateType type)
    : config(a_config),
      stored(format),
      precision(a_precision),
      state_type(type),
      activations(precision == Precision::fast ? activation_bits(format) : ActivationBits{32, 32}) {
  for (int layer = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
      const auto sides = stored.sides(layer, static_cast<int>(caches.size()), config.attention_layers());
      const int heads = config.num_key_value_heads;
      caches.emplace_back(layer, CacheSide(codec_of(sides.k), heads, stored, layer, true),
                          CacheSide(codec_of(sides.v), heads, stored, layer, false));
    }
  }
  states = zero_states();
}

std::vector<LayerState> CpuState::zero_states() const {
  std::vector<LayerState> zero;
  for (int i = 0; i < config.linear_layers(); ++i)
    zero.push_back({StateArray(config.linear_num_value_heads, config.linear_value_head_dim * config.linear_key_head_dim,
                               state_type == StateType::bf16),
                    StateArray(config.linear_conv_kernel_dim - 1, config.conv_dim(), precision == Precision::fast)});
  return zero;
}

codec::SideCodec CpuState::codec_of(const SideFormat& side) {
  codec::SideCodec codec = codec::side_codec(side, config.head_dim);
  if (codec.signs == 0) return codec;
  for (const auto& matrix : matrices_) {
    if (matrix->rows() == codec.signs && matrix->projection() == side.projection) codec.matrix = matrix.get();
  }
  if (!codec.matrix) {
    matrices_.push_back(
        std::make_unique<codec::SignMatrix>(side.projection, codec.signs, config.head_dim, stored.seed));
    codec.matrix = matrices_.back().get();
  }
  return codec;
}

void CpuState::reserve(int tokens) {
  for (auto& cache : caches) {
    cache.keys.reserve(tokens);
    cache.values.reserve(tokens);
  }
}

std::uint64_t CpuState::kv_bytes(int tokens) const {
  return cache::cache_bytes(config, stored, tokens, state_type).kv_allocated;
}

std::unique_ptr<DeviceSnapshot> CpuState::snapshot() const {
  auto snapshot = std::make_unique<CpuSnapshot>();
  snapshot->states = states;
  for (const auto& cache : caches) snapshot->sides.push_back({snapshot_of(cache.keys), snapshot_of(cache.values)});
  return snapshot;
}

std::unique_ptr<CpuSnapshot> CpuState::empty_snapshot() const {
  auto snapshot = std::make_unique<CpuSnapshot>();
  snapshot->states = zero_states();
  snapshot->sides.resize(caches.size());
  return snapshot;
}

void CpuState::restore(const DeviceSnapshot& snapshot, int position) {
  const auto& own = dynamic_cast<const CpuSnapshot&>(snapshot);
  states = own.states;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    cpu::restore(caches[i].keys, own.sides[i].keys, position);
    cpu::restore(caches[i].values, own.sides[i].values, position);
  }
}

std::unique_ptr<DeviceState> CpuState::fork(const DeviceSnapshot& snapshot, int position) const {
  auto forked = std::make_unique<CpuState>(config, stored, precision, state_type);
  for (std::size_t i = 0; i < caches.size(); ++i) {
    forked->caches[i].keys.adopt(caches[i].keys, position);
    forked->caches[i].values.adopt(caches[i].values, position);
  }
  forked->restore(snapshot, position);
  return forked;
}

CacheReport CpuState::report(int tokens) const {
  CacheReport report;
  report.format = stored;
  report.state = state_type;
  report.tokens = tokens;
  report.encode_s = encode_seconds;
  report.activation_bits = {{"expert_input", activations.expert_input}, {"tolerant", activations.tolerant}};
  CacheBytes& bytes = report.bytes;
  for (const auto& cache : caches) {
    report.layers.push_back({cache.layer, cache.keys.format(), cache.values.format()});
    bytes.kv_used += cache.keys.used_bytes(tokens) + cache.values.used_bytes(tokens);
    bytes.kv_allocated += cache.keys.allocated_bytes() + cache.values.allocated_bytes();
    bytes.kv_shared += cache.keys.shared_bytes() + cache.values.shared_bytes();
  }
  for (const auto& state : states) {
    bytes.recurrent += state.recurrent.bytes();
    bytes.convolution += state.convolution.bytes();
  }
  return report;
}

}  // namespace tqkv::cpu
