// Gated full attention: project, normalise, RoPE, rotate and encode, attend over packed pages, gate, project.
#include <chrono>
#include <cmath>

#include "runtime/cpu/attention.h"
#include "runtime/cpu/forward.h"

namespace tqkv::cpu {

void Forward::attention(std::size_t index, const AttentionWeights& weights, const LayerVectors& vectors) {
  const int heads = config_.num_attention_heads, kv_heads = config_.num_key_value_heads, dim = config_.head_dim;
  const int query_dim = config_.query_dim(), kv_dim = config_.kv_dim(), half = config_.rotary_dim / 2;
  const auto x = linear_.activations(work_.normed, config_.hidden_size);
  const Product projections[] = {{&weights.q_proj, work_.query_gate, 2 * query_dim, false, Tolerance::tolerant},
                                 {&weights.k_proj, work_.key, kv_dim, false},
                                 {&weights.v_proj, work_.value, kv_dim, false}};
  linear_.multiply(projections, x);

  // Scaled here once instead of at every score.
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for_rows(tokens_, [&](int first, int count) {
    for (int t = first; t < first + count; ++t) {
      float *query = row(work_.query, t, query_dim), *key = row(work_.key, t, kv_dim);
      const float *cosine = row(work_.cosine, t, half), *sine = row(work_.sine, t, half);
      kernels_.vector.rms_norm(row(work_.query_gate, t, 2 * query_dim), 2 * dim, vectors.q_norm.data(), heads, dim,
                               config_.rms_norm_eps, query, dim);
      kernels_.vector.rms_norm(key, dim, vectors.k_norm.data(), kv_heads, dim, config_.rms_norm_eps, key, dim);
      kernels_.vector.rope(query, dim, heads, config_.rotary_dim, cosine, sine);
      kernels_.vector.rope(key, dim, kv_heads, config_.rotary_dim, cosine, sine);
      for (int i = 0; i < query_dim; ++i) query[i] *= scale;
    }
  });

  for (const Segment& segment : batch_.segments()) {
    CpuState& state = *segment.state;
    LayerCacheStore& cache = state.caches[index];
    float *key = row(work_.key, segment.first, kv_dim), *value = row(work_.value, segment.first, kv_dim);
    if (segment.observer) {
      const std::size_t size = segment.ids.size() * static_cast<std::size_t>(kv_dim);
      segment.observer->keys_values(cache.layer, {key, size}, {value, size}, segment.rows());
    }
    const auto start = std::chrono::steady_clock::now();
    Attention attention(config_, state.stored, engine_.precision(), kernels_, pool_, work_);
    attention.next(segment.position, segment.rows(), row(work_.query, segment.first, query_dim));
    attention.encode(cache.keys, key, cache.layer);
    attention.encode(cache.values, value, cache.layer);
    state.encode_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    attention.attend(cache);
    cache.keys.drop_for(segment.position + segment.rows());
    cache.values.drop_for(segment.position + segment.rows());
  }

  for_rows(tokens_, [&](int first, int count) {
    for (int t = first; t < first + count; ++t)
      for (int head = 0; head < heads; ++head)
        kernels_.vector.sigmoid_multiply(row(work_.query, t, query_dim) + head * dim,
                                         row(work_.query_gate, t, 2 * query_dim) + head * 2 * dim + dim,
                                         static_cast<std::size_t>(dim));
  });
  const auto y = linear_.activations(work_.query, query_dim);
  const Product output[] = {{&weights.o_proj, work_.mixed, config_.hidden_size, false, Tolerance::tolerant}};
  linear_.multiply(output, y);
}

}  // namespace tqkv::cpu
