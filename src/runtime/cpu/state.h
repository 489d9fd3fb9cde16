// CpuState: what one session keeps on the CPU. The attention layers have pages of keys and values, the linear ones a
// state of fixed size.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/cpu/activation_bits.h"
#include "runtime/cpu/layer_cache.h"
#include "runtime/device_state.h"
#include "tqkv/engine.h"

namespace tqkv::cpu {

/// Floats [rows, columns] kept between forward passes, as f32 or bf16.
class StateArray {
 public:
  StateArray(int rows, int columns, bool bf16)
      : columns_(static_cast<std::size_t>(columns)),
        bf16_(bf16),
        bytes_(static_cast<std::size_t>(rows) * columns_ * (bf16 ? 2 : 4)) {}
  /// Columns first..first+count-1 of a row.
  void load(int row, int first, int count, float* out) const;
  void store(int row, int first, int count, const float* values);
  /// Those columns of a row of `from`, which has the same size and type.
  void copy(const StateArray& from, int row, int first, int count);
  /// The floats of a row themselves when they are f32, else null.
  float* f32(int row);
  std::uint64_t bytes() const { return bytes_.size(); }
  /// As they are kept.
  std::span<std::byte> raw() { return bytes_; }
  std::span<const std::byte> raw() const { return bytes_; }

 private:
  std::size_t at(int row, int column) const {
    return static_cast<std::size_t>(row) * columns_ + static_cast<std::size_t>(column);
  }

  std::size_t columns_;
  bool bf16_;
  std::vector<std::byte> bytes_;
};

/// What a linear layer remembers.
struct LayerState {
  StateArray recurrent;    // [value heads, value_head_dim * key_head_dim]
  StateArray convolution;  // [kernel - 1, conv_dim], oldest first
};

/// Pages before the position are still there.
struct CpuSnapshot final : DeviceSnapshot {
  struct Sides {
    SideSnapshot keys, values;
  };
  std::vector<LayerState> states;
  std::vector<Sides> sides;  // of the attention layers
  std::uint64_t bytes() const override;
};

struct CpuState final : DeviceState {
  /// `format` is effective.
  CpuState(const ModelConfig& config, const KvFormat& format, Precision precision, StateType type);
  const KvFormat& format() const override { return stored; }
  StateType type() const override { return state_type; }
  void reserve(int tokens) override;
  std::uint64_t kv_bytes(int tokens) const override;
  std::unique_ptr<DeviceSnapshot> snapshot() const override;
  /// One that is filled in layer by layer.
  std::unique_ptr<CpuSnapshot> empty_snapshot() const;
  void restore(const DeviceSnapshot& snapshot, int position) override;
  std::unique_ptr<DeviceState> fork(const DeviceSnapshot& snapshot, int position) const override;
  CacheReport report(int tokens) const override;
  void save(const cache::SessionTensor& tensor,
            const std::function<void(std::span<const std::byte>)>& sink) const override;
  void load(const cache::SessionTensor& tensor, int tokens, int first, int count,
            std::span<const std::byte> bytes) override;

  const ModelConfig& config;
  KvFormat stored;
  Precision precision;
  StateType state_type;
  ActivationBits activations;  // of prompts
  double encode_seconds = 0;
  std::vector<LayerCacheStore> caches;  // attention layers, in order
  std::vector<LayerState> states;       // linear layers, in order

 private:
  std::vector<LayerState> zero_states() const;
  /// Of `side`, with its S, made where there is none like it yet.
  codec::SideCodec codec_of(const SideFormat& side);

  std::vector<std::unique_ptr<codec::SignMatrix>> matrices_;  // S of keys and of values, where they keep signs
};

}  // namespace tqkv::cpu
