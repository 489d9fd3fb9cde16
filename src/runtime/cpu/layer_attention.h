// LayerAttention on the CPU, with the codecs, ranges and kernels of a session.
#pragma once
#include <memory>
#include <span>

#include "runtime/layer_attention.h"
#include "tqkv/device.h"
#include "tqkv/kv_format.h"

namespace tqkv::cpu {

class CpuLayerAttention final : public LayerAttention {
 public:
  /// Of layer `layer`, which is attention layer `index` of `count`. Throws Error(format) for a format that cannot store
  /// such vectors, Error(usage) for an instruction set that is not there.
  CpuLayerAttention(const LayerShape& shape, const KvFormat& format, int layer, int index, int count,
                    const DeviceOptions& options);
  ~CpuLayerAttention() override;
  void feed(std::span<const float> keys, std::span<const float> values) override;
  int tokens() const override;
  void attend(std::span<const float> query, int oldest_key, std::span<float> out) override;
  Seen seen(int kv_head) override;
  const SideFormat& keys() const override;
  const SideFormat& values() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tqkv::cpu
