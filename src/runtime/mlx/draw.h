// Drawing the next id on the device, as the host's Sampler does (tqkv/sampling.h) but in float32.
#pragma once
#include <cstdint>
#include <optional>

#include "runtime/mlx/mlx.h"
#include "tqkv/sampling.h"

namespace tqkv::mlx {

class Draw {
 public:
  /// Without penalties.
  explicit Draw(const Sampler& sampler);
  /// From logits [vocab] the id that will stand at `position`: [1], int32; -1 where a logit is not finite.
  mx::array operator()(const mx::array& logits, std::uint64_t position) const;

 private:
  Sampling sampling_;
  std::optional<mx::array> allowed_;  // [vocab]
};

}  // namespace tqkv::mlx
