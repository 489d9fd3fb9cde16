// Gated full attention: project, normalise, RoPE, rotate and encode, attend over packed pages, gate, project.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "runtime/cpu/forward.h"
#include "runtime/cpu/lift.h"

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
  encode(cache.keys, work_.key, cache.layer);
  encode(cache.values, work_.value, cache.layer);
  session_.encode_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  attend(cache);
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

// One side of the chunk into its pages, before any query looks: a query sees its own chunk as the cache holds it.
// rows [tokens, kv heads, dim] are overwritten.
void Forward::encode(CacheSide& side, float* rows, int layer) {
  const int kv_heads = config_.num_key_value_heads, dim = config_.head_dim, kv_dim = config_.kv_dim();
  const int begin = session_.position_, end = begin + tokens_;
  if (side.split() && !side.chosen()) choose_channels(side, rows, layer);
  const int blocks = ceil_div(tokens_, row_block);
  pool_.run(blocks * kv_heads, [&](int task, int) {
    const int head = task % kv_heads;
    const auto at = static_cast<std::size_t>(head);
    // Tokens first..last-1 of this task to `pages`; a run of them ends with its page.
    const auto store = [&](const SidePages& pages, int first, int last) {
      for (int token = first; token < last;) {
        const int run = std::min(last - token, cache::page_tokens - token % cache::page_tokens);
        const float* x =
            rows + static_cast<std::ptrdiff_t>(token - begin) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim;
        kernels_.attention.encode(pages.codec(), x, kv_dim, run, pages.codes(head, token), pages.scalars(head, token));
        token += run;
      }
    };
    const auto to_basis_of = [&](const codec::Basis& basis, int first, int last) {
      if (first >= last) return;
      to_basis(kernels_, basis,
               rows + static_cast<std::ptrdiff_t>(first - begin) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim,
               kv_dim, last - first, dim);
    };
    const int first = begin + task / kv_heads * row_block, last = std::min(first + row_block, end);
    if (side.sink) store(*side.sink, first, std::min(last, session_.format_.sink));
    if (side.window) store(*side.window, first, last);
    const int early =
        side.first ? std::clamp(cache::page_tokens, first, last) : first;  // first..early-1: before the split
    if (side.first) {
      to_basis_of(side.first_basis[at], first, early);
      store(*side.first, first, early);
    }
    if (early == last) return;
    to_basis_of(side.main_basis[at], early, last);
    store(side.main, early, last);
  });
}

// A split side chooses its channels by what they hold in tokens 0 to 255, summed token by token, so that chunks do not
// matter.
void Forward::choose_channels(CacheSide& side, const float* rows, int layer) {
  const int kv_heads = config_.num_key_value_heads, dim = config_.head_dim, kv_dim = config_.kv_dim();
  const int begin = session_.position_, end = std::min(begin + tokens_, cache::page_tokens);
  for (int head = 0; head < kv_heads; ++head) {
    auto& squares = side.squares[static_cast<std::size_t>(head)];
    for (int token = begin; token < end; ++token) {
      const float* x =
          rows + static_cast<std::ptrdiff_t>(token - begin) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim;
      for (std::size_t c = 0; c < squares.size(); ++c)
        squares[c] += static_cast<double>(x[c]) * static_cast<double>(x[c]);
    }
    if (end == cache::page_tokens)
      side.main_basis.push_back(
          codec::Basis::split(codec::strongest_channels(squares), session_.format_.seed, layer, head, dim));
  }
}

// One block of queries of one KV head against keys span_first..span_last-1; output [queries, dim] in the head's own
// basis, not divided by `sum`. Row i of the block is query head i % group of token i / group.
void Forward::attend_block(const LayerCacheStore& cache, int head, int block, int span_first, int span_last,
                           float* maximum, float* sum, float* output, int worker) {
  const int dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
  const int first = block * block_tokens(group), count = std::min(block_tokens(group), tokens_ - first);
  std::fill_n(maximum, count * group, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, count * group, 0.0f);
  std::fill_n(output, static_cast<std::ptrdiff_t>(count) * group * dim, 0.0f);

  // Absolute positions decide which range serves a key: the sink, the first page of a split, all others but the newest
  // `window` of a query, and these.
  const int oldest = session_.position_ + first, newest = oldest + count - 1;  // of the block's queries
  const int window = cache.keys.window || cache.values.window ? session_.format_.window : 0;
  const int sink = cache.keys.sink || cache.values.sink ? session_.format_.sink : 0;
  const int split = cache.keys.first || cache.values.first ? cache::page_tokens : 0;
  const int end = std::min(span_last, newest + 1);
  const auto run = [&](Range range, int from, int to) {
    if (from < to) attend_range({&cache, range, head, first, count, from, to, window}, maximum, sum, output, worker);
  };
  run(Range::sink, span_first, std::min(end, sink));
  run(Range::first, std::max(span_first, sink), std::min({end, split, newest + 1 - window}));
  run(Range::main, std::max({span_first, sink, split}), std::min(end, newest + 1 - window));
  if (window > 0) run(Range::window, std::max({span_first, sink, oldest + 1 - window}), end);
}

// Keys from..to-1 of one range. `output` is that of the ranges before; what they have gathered shrinks when this one
// moves the maximum.
void Forward::attend_range(const KeyRange& keys, float* maximum, float* sum, float* output, int worker) {
  const int dim = config_.head_dim, query_dim = config_.query_dim();
  const int group = config_.num_attention_heads / config_.num_key_value_heads, queries = keys.count * group;
  auto& buffers = work_.workers[static_cast<std::size_t>(worker)];
  const auto& kernels = kernels_.attention;
  const SourceSide key_side = source_of(keys.cache->keys, keys.range, keys.head),
                   value_side = source_of(keys.cache->values, keys.range, keys.head);
  const auto &key_codec = key_side.pages->codec(), &value_codec = value_side.pages->codec();
  const bool fast = engine_.precision() == Precision::fast;
  const bool packed_keys = fast && kernels.packed_keys(key_codec);
  const bool packed_values = fast && kernels.packed_values(value_codec);

  float* query = key_codec.signs > 0 ? buffers.lifted : buffers.query;
  for (int t = 0; t < keys.count; ++t)
    std::copy_n(work_.query + static_cast<std::ptrdiff_t>(keys.first + t) * query_dim +
                    static_cast<std::ptrdiff_t>(keys.head) * group * dim,
                group * dim, buffers.query + static_cast<std::ptrdiff_t>(t) * group * dim);
  lift(kernels_, key_codec, *key_side.basis, buffers.query, queries, query, buffers.lift);
  std::copy_n(maximum, queries, buffers.maximum);
  const int value_space = value_codec.space();
  std::fill_n(buffers.sums, static_cast<std::ptrdiff_t>(queries) * value_space, 0.0f);
  const AttentionState scoring{queries, key_codec.space(), query, nullptr, nullptr, nullptr};
  AttentionState state{queries, value_space, query, maximum, sum, buffers.sums};
  if (packed_keys) kernels.quantize_queries(key_codec, query, queries, &buffers.query8);

  for (int key = keys.from; key < keys.to;) {
    const int n = std::min(tile_keys - key % tile_keys, keys.to - key);  // a tile never crosses a page
    for (int i = 0; i < queries; ++i) {
      const int own = session_.position_ + keys.first + i / group;  // position of the query
      const int seen = (keys.range == Range::window || keys.range == Range::sink ? own : own - keys.window) + 1 - key;
      buffers.visible[i] = std::clamp(seen, 0, n);
    }
    const std::byte *codes = key_side.pages->codes(keys.head, key), *scalars = key_side.pages->scalars(keys.head, key);
    if (packed_keys) {
      kernels.packed_scores(key_codec, codes, scalars, n, buffers.query8, buffers.visible, buffers.scores,
                            buffers.packed);
    } else {
      kernels.decode(key_codec, codes, scalars, n, buffers.keys);
      kernels.scores(scoring, buffers.keys, n, buffers.visible, buffers.scores);
    }
    if (keys.range == Range::window) hide_older(keys, key, buffers);
    kernels.weigh(state, n, buffers.visible, buffers.scores);
    codes = value_side.pages->codes(keys.head, key);
    scalars = value_side.pages->scalars(keys.head, key);
    if (packed_values) {
      kernels.add_packed_values(value_codec, codes, scalars, n, state, buffers.visible, buffers.scores, buffers.packed);
    } else {
      kernels.decode(value_codec, codes, scalars, n, buffers.values);
      kernels.add_values(state, buffers.values, n, buffers.visible, buffers.scores);
    }
    key += n;
  }
  if (packed_values) kernels.natural_order(value_codec, state);

  lower(kernels_, value_codec, *value_side.basis, buffers.sums, queries, buffers.lowered, buffers.lift);
  for (int i = 0; i < queries; ++i) {
    float* row = output + static_cast<std::ptrdiff_t>(i) * dim;
    const float before = buffers.maximum[i];
    const float factor = before == -std::numeric_limits<float>::infinity() ? 0.0f : std::exp(before - maximum[i]);
    for (int c = 0; c < dim; ++c) row[c] = row[c] * factor + buffers.lowered[static_cast<std::ptrdiff_t>(i) * dim + c];
  }
}

// Keys older than a query's window are another range's. A query that sees none of a tile's keys has none visible; of
// the others at least one is left.
void Forward::hide_older(const KeyRange& keys, int key, WorkerBuffers& buffers) {
  const int group = config_.num_attention_heads / config_.num_key_value_heads;
  for (int i = 0; i < keys.count * group; ++i) {
    const int oldest = session_.position_ + keys.first + i / group + 1 - keys.window;  // that the window holds
    const int hidden = std::min(oldest - key, buffers.visible[i]);
    if (hidden <= 0) continue;
    if (hidden == buffers.visible[i]) {
      buffers.visible[i] = 0;
      continue;
    }
    std::fill_n(buffers.scores + static_cast<std::ptrdiff_t>(i) * tile_keys, hidden,
                -std::numeric_limits<float>::infinity());
  }
}

void Forward::finish_block(int head, int block, const float* sum, float* output) {
  const int dim = config_.head_dim, query_dim = config_.query_dim();
  const int group = config_.num_attention_heads / config_.num_key_value_heads;
  const int first = block * block_tokens(group), count = std::min(block_tokens(group), tokens_ - first);
  for (int i = 0; i < count * group; ++i) {
    const float factor = 1.0f / sum[i];
    for (int j = 0; j < dim; ++j) output[static_cast<std::ptrdiff_t>(i) * dim + j] *= factor;
  }
  for (int t = 0; t < count; ++t)
    std::copy_n(output + static_cast<std::ptrdiff_t>(t) * group * dim, group * dim,
                work_.query + static_cast<std::ptrdiff_t>(first + t) * query_dim +
                    static_cast<std::ptrdiff_t>(head) * group * dim);
}

// Few queries over many keys are split into spans of keys that are combined in order. The split depends on shape and
// depth alone, so that any number of threads gives the same bits.
void Forward::attend(const LayerCacheStore& cache) {
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
        attend_block(cache, head, block, 0, keys, work_.partial_maximum + static_cast<std::ptrdiff_t>(slot) * queries,
                     sum, output, worker);
        finish_block(head, block, sum, output);
      });
    }
    return;
  }
  pool_.run(tasks * spans, [&](int slot, int worker) {
    const int task = slot / spans, first = slot % spans * span;
    attend_block(cache, task % kv_heads, task / kv_heads, first, std::min(first + span, keys),
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
    finish_block(task % kv_heads, block, work_.partial_sum + slot(0), work_.partial_output + slot(0) * dim);
  });
}

}  // namespace tqkv::cpu
