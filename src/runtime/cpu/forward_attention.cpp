// Gated full attention: project, normalise, RoPE, rotate and encode, attend over packed pages, gate, project.
#include <chrono>
#include <cmath>

#include "runtime/cpu/attention.h"
#include "runtime/cpu/forward.h"

namespace tqkv::cpu {

void Forward::attention(LayerCacheStore& cache, const AttentionWeights& weights, const LayerVectors& vectors) {
  const int heads = config_.num_attention_heads, kv_heads = config_.num_key_value_heads, dim = config_.head_dim;
  const int query_dim = config_.query_dim(), kv_dim = config_.kv_dim(), half = config_.rotary_dim / 2;
  const auto x = linear_.activations(work_.normed, tokens_, config_.hidden_size);
  const Planes tolerant = planes_of(session_.activations_.tolerant);
  const Product projections[] = {{&weights.q_proj, work_.query_gate, 2 * query_dim, false, tolerant},
                                 {&weights.k_proj, work_.key, kv_dim, false},
                                 {&weights.v_proj, work_.value, kv_dim, false}};
  linear_.multiply(projections, x);

  // Scaled here once instead of at every score.
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for_rows(tokens_, [&](int first, int count) {
    for (std::ptrdiff_t t = first; t < first + count; ++t) {
      float* query = work_.query + t * query_dim;
      float* key = work_.key + t * kv_dim;
      const float* cosine = work_.cosine + t * half;
      const float* sine = work_.sine + t * half;
      kernels_.vector.rms_norm(work_.query_gate + t * 2 * query_dim, 2 * dim, vectors.q_norm.data(), heads, dim,
                               config_.rms_norm_eps, query, dim);
      kernels_.vector.rms_norm(key, dim, vectors.k_norm.data(), kv_heads, dim, config_.rms_norm_eps, key, dim);
      kernels_.vector.rope(query, dim, heads, config_.rotary_dim, cosine, sine);
      kernels_.vector.rope(key, dim, kv_heads, config_.rotary_dim, cosine, sine);
      for (int i = 0; i < query_dim; ++i) query[i] *= scale;
    }
  });

  if (session_.observer_) {
    const auto size = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(kv_dim);
    session_.observer_->keys_values(cache.layer, {work_.key, size}, {work_.value, size}, tokens_);
  }
  const auto start = std::chrono::steady_clock::now();
  Attention attention(config_, session_.format_, engine_.precision(), kernels_, pool_, work_);
  attention.next(session_.position_, tokens_);
  attention.encode(cache.keys, work_.key, cache.layer);
  attention.encode(cache.values, work_.value, cache.layer);
  session_.encode_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  attention.attend(cache);
  cache.keys.drop_for(session_.position_ + tokens_);
  cache.values.drop_for(session_.position_ + tokens_);

  for_rows(tokens_, [&](int first, int count) {
    for (std::ptrdiff_t t = first; t < first + count; ++t)
      for (std::ptrdiff_t head = 0; head < heads; ++head)
        kernels_.vector.sigmoid_multiply(work_.query + t * query_dim + head * dim,
                                         work_.query_gate + t * 2 * query_dim + head * 2 * dim + dim,
                                         static_cast<std::size_t>(dim));
  });
  const auto y = linear_.activations(work_.query, tokens_, query_dim);
  const Product output[] = {{&weights.o_proj, work_.mixed, config_.hidden_size, false, tolerant}};
  linear_.multiply(output, y);
}

}  // namespace tqkv::cpu
