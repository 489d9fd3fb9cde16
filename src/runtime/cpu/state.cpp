#include "runtime/cpu/state.h"

#include <cstring>

#include "base/float16.h"
#include "codec/sign_matrix.h"
#include "runtime/cpu/activation_bits.h"

namespace tqkv::cpu {

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

std::uint64_t CpuStateSnapshot::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& state : states) sum += state.recurrent.bytes() + state.convolution.bytes();
  for (const auto& layer : sides) sum += layer.keys.bytes() + layer.values.bytes();
  return sum;
}

CpuState::CpuState(const ModelConfig& config, const KvFormat& a_format, Precision precision, StateType a_type)
    : format(a_format), type(a_type), activations(activation_bits(a_format)) {
  const auto state_size =
      static_cast<std::size_t>(config.value_dim()) * static_cast<std::size_t>(config.linear_key_head_dim);
  const auto conv_size =
      static_cast<std::size_t>(config.linear_conv_kernel_dim - 1) * static_cast<std::size_t>(config.conv_dim());
  for (int layer = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
      const auto sides = format.sides(layer, static_cast<int>(caches.size()), config.attention_layers());
      const int heads = config.num_key_value_heads, dim = config.head_dim;
      caches.emplace_back(layer, CacheSide(codec_of(sides.k, dim), heads, format, layer, true),
                          CacheSide(codec_of(sides.v, dim), heads, format, layer, false));
    } else {
      states.push_back(
          {StateArray(state_size, type == StateType::bf16), StateArray(conv_size, precision == Precision::fast)});
    }
  }
}

codec::SideCodec CpuState::codec_of(const SideFormat& side, int dim) {
  codec::SideCodec codec = codec::side_codec(side, dim);
  if (codec.signs == 0) return codec;
  for (const auto& matrix : matrices_) {
    if (matrix->rows() == codec.signs && matrix->projection() == side.projection) codec.matrix = matrix.get();
  }
  if (!codec.matrix) {
    matrices_.push_back(std::make_unique<codec::SignMatrix>(side.projection, codec.signs, dim, format.seed));
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

CpuStateSnapshot CpuState::snapshot() const {
  CpuStateSnapshot snapshot{states, {}};
  for (const auto& cache : caches) snapshot.sides.push_back({snapshot_of(cache.keys), snapshot_of(cache.values)});
  return snapshot;
}

void CpuState::restore(const CpuStateSnapshot& snapshot, int position) {
  states = snapshot.states;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    cpu::restore(caches[i].keys, snapshot.sides[i].keys, position);
    cpu::restore(caches[i].values, snapshot.sides[i].values, position);
  }
}

CacheBytes CpuState::bytes(int tokens) const {
  CacheBytes bytes;
  for (const auto& cache : caches) {
    bytes.kv_used += cache.keys.used_bytes(tokens) + cache.values.used_bytes(tokens);
    bytes.kv_allocated += cache.keys.allocated_bytes() + cache.values.allocated_bytes();
  }
  for (const auto& state : states) {
    bytes.recurrent += state.recurrent.bytes();
    bytes.convolution += state.convolution.bytes();
  }
  return bytes;
}

}  // namespace tqkv::cpu
