// Gated full attention: project, normalise, RoPE, rotate and encode, attend over packed pages, gate, project.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "runtime/cpu/forward.h"

namespace tqkv::cpu {

void Forward::attention(LayerPages& pages, const AttentionWeights& weights, const LayerVectors& vectors) {
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
      if (!pages.keys.codec().format.rotated()) continue;
      const int group = heads / kv_heads;
      for (int head = 0; head < kv_heads; ++head)
        kernels_.attention.rotate(query + static_cast<std::ptrdiff_t>(head) * group * dim, dim, group,
                                  pages.signs[static_cast<std::size_t>(head)].data(), dim);
    }
  });

  const auto start = std::chrono::steady_clock::now();
  encode(pages);
  session_.encode_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  attend(pages);

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

// Keys and values of the chunk into the pages, before any query looks: a query sees its own chunk as the cache holds
// it.
void Forward::encode(LayerPages& pages) {
  const int kv_heads = config_.num_key_value_heads, dim = config_.head_dim, kv_dim = config_.kv_dim();
  const int blocks = ceil_div(tokens_, row_block);
  pool_.run(blocks * kv_heads, [&](int task, int) {
    const int head = task % kv_heads, first = task / kv_heads * row_block;
    const int last = std::min(first + row_block, tokens_);
    const auto side = [&](SidePages& target, float* rows) {
      const auto& codec = target.codec();
      if (codec.format.rotated())
        kernels_.attention.rotate(
            rows + static_cast<std::ptrdiff_t>(first) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim, kv_dim,
            last - first, pages.signs[static_cast<std::size_t>(head)].data(), dim);
      for (int t = first; t < last;) {  // a run of tokens ends with its page
        const int token = session_.position_ + t;
        const int run = std::min(last - t, cache::page_tokens - token % cache::page_tokens);
        kernels_.attention.encode(
            codec, rows + static_cast<std::ptrdiff_t>(t) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim, kv_dim,
            run, target.codes(head, token), target.scalars(head, token));
        t += run;
      }
    };
    side(pages.keys, work_.key);
    side(pages.values, work_.value);
  });
}

// One block of queries of one KV head against keys span_first..span_last-1. Row i of the block is query head i % group
// of token i / group.
void Forward::attend_block(LayerPages& pages, int head, int block, int span_first, int span_last, float* maximum,
                           float* sum, float* output, int worker) {
  const int dim = config_.head_dim, query_dim = config_.query_dim();
  const int group = config_.num_attention_heads / config_.num_key_value_heads;
  const int first = block * block_tokens(group), count = std::min(block_tokens(group), tokens_ - first),
            queries = count * group;
  auto& buffers = work_.workers[static_cast<std::size_t>(worker)];
  const auto& kernels = kernels_.attention;
  const auto &key_codec = pages.keys.codec(), &value_codec = pages.values.codec();
  const bool fast = engine_.precision() == Precision::fast;
  const bool packed_keys = fast && kernels.packed_keys(key_codec);
  const bool packed_values = fast && kernels.packed_values(value_codec);
  for (int t = 0; t < count; ++t)
    std::copy_n(work_.query + static_cast<std::ptrdiff_t>(first + t) * query_dim +
                    static_cast<std::ptrdiff_t>(head) * group * dim,
                group * dim, buffers.query + static_cast<std::ptrdiff_t>(t) * group * dim);
  std::fill_n(maximum, queries, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, queries, 0.0f);
  std::fill_n(output, static_cast<std::ptrdiff_t>(queries) * dim, 0.0f);
  AttentionState state{queries, dim, buffers.query, maximum, sum, output};
  if (packed_keys) kernels.quantize_queries(key_codec, buffers.query, queries, &buffers.query8);
  const int last_visible = session_.position_ + first + count;  // keys that the last query of the block sees
  const int end = std::min(span_last, last_visible);
  for (int key = span_first; key < end; key += tile_keys) {
    const int n = std::min(tile_keys, end - key);
    for (int i = 0; i < queries; ++i)
      buffers.visible[i] = std::clamp(session_.position_ + first + i / group + 1 - key, 0, n);
    const std::byte *codes = pages.keys.codes(head, key), *scalars = pages.keys.scalars(head, key);
    if (packed_keys) {
      kernels.packed_scores(key_codec, codes, scalars, n, buffers.query8, buffers.visible, buffers.scores,
                            buffers.packed);
    } else {
      kernels.decode(key_codec, codes, scalars, n, buffers.keys);
      kernels.scores(state, buffers.keys, n, buffers.visible, buffers.scores);
    }
    kernels.weigh(state, n, buffers.visible, buffers.scores);
    codes = pages.values.codes(head, key);
    scalars = pages.values.scalars(head, key);
    if (packed_values) {
      kernels.add_packed_values(value_codec, codes, scalars, n, state, buffers.visible, buffers.scores, buffers.packed);
    } else {
      kernels.decode(value_codec, codes, scalars, n, buffers.values);
      kernels.add_values(state, buffers.values, n, buffers.visible, buffers.scores);
    }
  }
  if (packed_values) kernels.natural_order(value_codec, state);
}

void Forward::finish_block(const LayerPages& pages, int head, int block, const float* sum, float* output) {
  const int dim = config_.head_dim, query_dim = config_.query_dim();
  const int group = config_.num_attention_heads / config_.num_key_value_heads;
  const int first = block * block_tokens(group), count = std::min(block_tokens(group), tokens_ - first);
  for (int i = 0; i < count * group; ++i) {
    const float factor = 1.0f / sum[i];
    for (int j = 0; j < dim; ++j) output[static_cast<std::ptrdiff_t>(i) * dim + j] *= factor;
  }
  if (pages.values.codec().format.rotated())
    kernels_.attention.unrotate(output, dim, count * group, pages.signs[static_cast<std::size_t>(head)].data(), dim);
  for (int t = 0; t < count; ++t)
    std::copy_n(output + static_cast<std::ptrdiff_t>(t) * group * dim, group * dim,
                work_.query + static_cast<std::ptrdiff_t>(first + t) * query_dim +
                    static_cast<std::ptrdiff_t>(head) * group * dim);
}

// Few queries over many keys are split into spans of keys that are combined in order. The split depends on shape and
// depth alone, so that any number of threads gives the same bits.
void Forward::attend(LayerPages& pages) {
  const int dim = config_.head_dim, kv_heads = config_.num_key_value_heads;
  const int group = config_.num_attention_heads / kv_heads;
  const int blocks = ceil_div(tokens_, block_tokens(group)), tasks = blocks * kv_heads;
  const int keys = session_.position_ + tokens_;
  const int most_spans = std::max(1, attention_partials / tasks);
  const int span = ceil_div(std::max(span_keys, ceil_div(keys, most_spans)), cache::page_tokens) * cache::page_tokens;
  const int spans = ceil_div(keys, span);
  const int queries = block_tokens(group) * group;
  if (tasks * spans > attention_partials || spans == 1) {
    // The partial buffers have room for attention_partials blocks: whole rows of tasks take turns in them.
    for (int begin = 0; begin < tasks; begin += attention_partials) {
      const int count = std::min(attention_partials, tasks - begin);
      pool_.run(count, [&](int slot, int worker) {
        // The longest blocks first, so that the last task to end is a short one.
        const int task = tasks - 1 - (begin + slot), head = task % kv_heads, block = task / kv_heads;
        float* sum = work_.partial_sum + static_cast<std::ptrdiff_t>(slot) * queries;
        float* output = work_.partial_output + static_cast<std::ptrdiff_t>(slot) * queries * dim;
        attend_block(pages, head, block, 0, keys, work_.partial_maximum + static_cast<std::ptrdiff_t>(slot) * queries,
                     sum, output, worker);
        finish_block(pages, head, block, sum, output);
      });
    }
    return;
  }
  pool_.run(tasks * spans, [&](int slot, int worker) {
    const int task = slot / spans, first = slot % spans * span;
    attend_block(pages, task % kv_heads, task / kv_heads, first, std::min(first + span, keys),
                 work_.partial_maximum + static_cast<std::ptrdiff_t>(slot) * queries,
                 work_.partial_sum + static_cast<std::ptrdiff_t>(slot) * queries,
                 work_.partial_output + static_cast<std::ptrdiff_t>(slot) * queries * dim, worker);
  });
  pool_.run(tasks, [&](int task, int) {
    const int block = task / kv_heads;
    const int used = std::min(block_tokens(group), tokens_ - block * block_tokens(group)) * group;
    const auto slot = [&](int s) { return static_cast<std::ptrdiff_t>(task * spans + s) * queries; };
    for (int i = 0; i < used; ++i) {
      float maximum = -std::numeric_limits<float>::infinity();
      for (int s = 0; s < spans; ++s) maximum = std::max(maximum, work_.partial_maximum[slot(s) + i]);
      float total = 0;
      float* output = work_.partial_output + (slot(0) + i) * dim;
      for (int s = 0; s < spans; ++s) {
        const float factor = std::exp(work_.partial_maximum[slot(s) + i] - maximum);
        total += factor * work_.partial_sum[slot(s) + i];
        const float* part = work_.partial_output + (slot(s) + i) * dim;
        if (s == 0)
          for (int j = 0; j < dim; ++j) output[j] *= factor;
        else
          kernels_.vector.add_scaled(output, part, factor, static_cast<std::size_t>(dim));
      }
      work_.partial_sum[slot(0) + i] = total;
    }
    finish_block(pages, task % kv_heads, block, work_.partial_sum + slot(0), work_.partial_output + slot(0) * dim);
  });
}

}  // namespace tqkv::cpu
