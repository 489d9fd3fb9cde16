#include "runtime/plan/weight_reads.h"

#include <cmath>

#include "tqkv/memory_plan.h"

namespace tqkv {

double WeightReads::of_experts(int tokens) const {
  return static_cast<double>(experts) * (1.0 - std::pow(1.0 - share, tokens));
}

WeightReads weight_reads(const ModelConfig& config) {
  WeightReads reads;
  for (const WeightKind& kind : expected_weights(config)) {
    if (kind.kind == "experts" && config.moe()) {
      reads.experts = kind.bytes;
      reads.share = static_cast<double>(config.num_experts_per_tok) / config.num_experts;
    } else if (kind.kind != "embedding" || config.tie_word_embeddings) {
      reads.dense += kind.bytes;
    }
  }
  return reads;
}

}  // namespace tqkv
