// MlxState: what one session keeps in arrays of MLX. Whoever holds an array keeps what it has: MLX updates one in place
// only where nothing else holds it. So a snapshot is a list of arrays.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "runtime/device_state.h"
#include "runtime/mlx/layer_cache.h"
#include "runtime/mlx/mlx.h"
#include "runtime/mlx/paths.h"
#include "runtime/mlx/thread.h"

namespace tqkv::mlx {

/// What a linear layer remembers.
struct LinearState {
  mx::array recurrent;    // [value heads, value_head_dim, key_head_dim]
  mx::array convolution;  // [kernel - 1, conv_dim], oldest first
};

struct MlxSnapshot final : DeviceSnapshot {
  struct Sides {
    CacheSide::Snapshot keys, values;
  };
  std::vector<LinearState> states;
  std::vector<Sides> sides;  // of the attention layers
  std::uint64_t bytes() const override;
};

struct MlxState final : DeviceState {
  /// `format` is effective. Throws Error(format) for what this engine does not store.
  MlxState(MlxThread& thread, Paths& paths, const ModelConfig& config, const KvFormat& format, StateType type,
           Precision precision);
  ~MlxState() override;
  const KvFormat& format() const override { return stored; }
  StateType type() const override { return StateType::f32; }
  void reserve(int tokens) override;
  std::uint64_t kv_bytes(int tokens) const override;
  std::unique_ptr<DeviceSnapshot> snapshot() const override;
  void restore(const DeviceSnapshot& snapshot, int position) override;
  std::unique_ptr<DeviceState> fork(const DeviceSnapshot& snapshot, int position) const override;
  CacheReport report(int tokens) const override;
  void save(const cache::SessionTensor& tensor,
            const std::function<void(std::span<const std::byte>)>& sink) const override;
  void load(const cache::SessionTensor& tensor, int tokens, int first, int count,
            std::span<const std::byte> bytes) override;

  /// What going back needs while nothing but tokens is added.
  struct Mark {
    std::vector<LinearState> states;
    std::vector<std::pair<CacheSide::Mark, CacheSide::Mark>> sides;  // keys, values
  };
  Mark mark() const;
  void go_back(const Mark& mark);

  MlxThread& thread;
  Paths& paths;
  const ModelConfig& config;
  KvFormat stored;
  Precision precision;
  std::vector<AttentionCache> caches;  // attention layers, in order
  std::vector<LinearState> states;     // linear layers, in order
};

}  // namespace tqkv::mlx
