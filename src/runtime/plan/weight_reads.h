// What a decode step reads of the weights.
#pragma once
#include <cstdint>

#include "tqkv/model_config.h"

namespace tqkv {

struct WeightReads {
  std::uint64_t dense = 0;  ///< bytes that every step reads: all but the experts and an embedding that is not the head
  std::uint64_t experts = 0;  ///< bytes of all routed experts
  double share = 0;           ///< of the experts, for one token

  /// Expected bytes of the experts that `tokens` tokens choose, each expert once, when all are chosen alike:
  /// experts (1 - (1 - share)^tokens).
  double of_experts(int tokens) const;
};

WeightReads weight_reads(const ModelConfig& config);

}  // namespace tqkv
