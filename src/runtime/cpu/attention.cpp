#include "runtime/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/float16.h"
#include "runtime/cpu/lift.h"
#include "runtime/cpu/linear.h"

namespace tqkv::cpu {

void Attention::next(int position, int tokens, float* query) {
  position_ = position;
  tokens_ = tokens;
  query_ = query;
}

// One side of the chunk into its pages, before any query looks: a query sees its own chunk as the cache holds it.
void Attention::encode(CacheSide& side, float* rows, int layer) {
  const int kv_heads = config_.num_key_value_heads, dim = config_.head_dim, kv_dim = config_.kv_dim();
  const int begin = position_, end = begin + tokens_;
  if (position_ < side.mean_tokens()) sum_keys(side, rows);
  if (side.split() && !side.chosen()) sum_squares(side, rows, layer);
  const int blocks = ceil_div(tokens_, row_block);
  pool_.run(blocks * kv_heads, [&](int task, int) {
    const int head = task % kv_heads;
    const auto at = static_cast<std::size_t>(head);
    const auto row = [&](int token) {
      return rows + static_cast<std::ptrdiff_t>(token - begin) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim;
    };
    // Tokens first..last-1 of this task to `pages`; a run of them ends with its page.
    const auto store = [&](const SidePages& pages, int first, int last) {
      for (int token = first; token < last;) {
        const int run = std::min(last - token, cache::page_tokens - token % cache::page_tokens);
        kernels_.attention.encode(pages.codec(), row(token), kv_dim, run, pages.codes(head, token),
                                  pages.scalars(head, token));
        token += run;
      }
    };
    const auto to_basis_of = [&](const codec::Basis& basis, int first, int last) {
      if (first < last) to_basis(kernels_, basis, row(first), kv_dim, last - first, dim);
    };
    const int first = begin + task / kv_heads * row_block, last = std::min(first + row_block, end);
    if (side.sink) store(*side.sink, first, std::min(last, format_.sink));
    if (side.mean_tokens() > 0) {
      const std::span<const float> mean = side.mean(head);
      for (int token = std::max(first, side.mean_tokens()); token < last; ++token)
        kernels_.vector.add_scaled(row(token), mean.data(), -1.0f, mean.size());
    }
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

// The mean of the keys before mean_tokens(), summed token by token, so that chunks do not matter.
void Attention::sum_keys(CacheSide& side, const float* rows) {
  const int begin = position_, end = std::min(begin + tokens_, side.mean_tokens());
  std::vector<float>& sum = side.key_sum;  // of all heads, as a row has them
  for (int token = begin; token < end; ++token)
    kernels_.vector.add(sum.data(), rows + static_cast<std::ptrdiff_t>(token - begin) * config_.kv_dim(), sum.size());
  if (end == side.mean_tokens())
    for (float& channel : sum) channel /= static_cast<float>(side.mean_tokens());
}

// A split side chooses its channels by what they hold in tokens 0 to 255 as these are coded, summed token by token, so
// that chunks do not matter.
void Attention::sum_squares(CacheSide& side, const float* rows, int layer) {
  const int kv_heads = config_.num_key_value_heads, dim = config_.head_dim, kv_dim = config_.kv_dim();
  const int begin = position_, end = std::min(begin + tokens_, cache::page_tokens);
  for (int head = 0; head < kv_heads; ++head) {
    auto& squares = side.squares[static_cast<std::size_t>(head)];
    for (int token = begin; token < end; ++token) {
      const float* x =
          rows + static_cast<std::ptrdiff_t>(token - begin) * kv_dim + static_cast<std::ptrdiff_t>(head) * dim;
      const bool centred = side.mean_tokens() > 0 && token >= side.mean_tokens();
      for (std::size_t c = 0; c < squares.size(); ++c) {
        const double value = centred ? x[c] - side.mean(head)[c] : x[c];
        squares[c] += value * value;
      }
    }
    if (end == cache::page_tokens)
      side.main_basis.push_back(
          codec::Basis::split(codec::strongest_channels(squares), format_.seed, layer, head, dim));
  }
}

// One block of queries of one KV head against keys span_first..span_last-1; output [queries, dim] in the head's own
// basis, not divided by `sum`. Row i of the block is query head i % group of token i / group.
void Attention::attend_block(const LayerCacheStore& cache, int head, int block, int span_first, int span_last,
                             float* maximum, float* sum, float* output, int worker) {
  const int dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
  const int first = block * block_tokens(group), count = std::min(block_tokens(group), tokens_ - first);
  std::fill_n(maximum, count * group, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, count * group, 0.0f);
  std::fill_n(output, static_cast<std::ptrdiff_t>(count) * group * dim, 0.0f);

  const int oldest = position_ + first, newest = oldest + count - 1;  // of the block's queries
  for (const cache::KeySpan& span : cache::key_spans(format_, cache.keys.format(), cache.values.format(), oldest,
                                                     newest, span_first, std::min(span_last, newest + 1))) {
    if (span.from >= span.to) continue;
    const KeyRange keys{&cache, span.range, head, first, count, span.from, span.to};
    attend_range(keys, maximum, sum, output, worker);
    if (span.range == cache::Range::sink && cache.keys.mean_tokens() > 0)
      centre_scores(keys, maximum, work_.workers[static_cast<std::size_t>(worker)]);
  }
}

// Keys of the sink are stored as they are, others from mean_tokens() on minus the mean μ. q·(k - μ) = q·k - q·μ: what a
// query has gathered from the sink becomes what centred keys would have given by moving its maximum.
void Attention::centre_scores(const KeyRange& keys, float* maximum, WorkerBuffers& buffers) {
  const int dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
  const int queries = keys.count * group;
  const CacheSide& side = keys.cache->keys;
  load_queries(keys, buffers.query);
  // With the rounding that the sink's scores have: an error of the query times μ must not stay.
  if (precision_ == Precision::fast && kernels_.attention.packed_keys(side.sink->codec()))
    for (int i = 0; i < queries * dim; ++i) buffers.query[i] = bf16_to_f32(f32_to_bf16(buffers.query[i]));
  std::fill_n(buffers.visible, queries, 1);
  const AttentionState state{queries, dim, buffers.query, nullptr, nullptr, nullptr};
  kernels_.attention.scores(state, side.mean(keys.head).data(), 1, buffers.visible, buffers.scores);
  for (int i = 0; i < queries; ++i) {
    const int own = position_ + keys.first + i / group;
    if (own >= side.mean_tokens()) maximum[i] -= buffers.scores[static_cast<std::ptrdiff_t>(i) * tile_keys];
  }
}

void Attention::load_queries(const KeyRange& keys, float* out) const {
  const int dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
  for (int t = 0; t < keys.count; ++t)
    std::copy_n(query_ + static_cast<std::ptrdiff_t>(keys.first + t) * config_.query_dim() +
                    static_cast<std::ptrdiff_t>(keys.head) * group * dim,
                group * dim, out + static_cast<std::ptrdiff_t>(t) * group * dim);
}

// Keys from..to-1 of one range. `output` is that of the ranges before; what they have gathered shrinks when this one
// moves the maximum.
void Attention::attend_range(const KeyRange& keys, float* maximum, float* sum, float* output, int worker) {
  const int dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
  const int queries = keys.count * group;
  auto& buffers = work_.workers[static_cast<std::size_t>(worker)];
  const auto& kernels = kernels_.attention;
  const SourceSide key_side = source_of(keys.cache->keys, keys.range, keys.head),
                   value_side = source_of(keys.cache->values, keys.range, keys.head);
  const auto &key_codec = key_side.pages->codec(), &value_codec = value_side.pages->codec();
  const bool fast = precision_ == Precision::fast;
  const int window = keys.cache->keys.window || keys.cache->values.window ? format_.window : 0;
  const bool packed_keys = fast && kernels.packed_keys(key_codec);
  const bool packed_values = fast && kernels.packed_values(value_codec);

  float* query = key_codec.signs > 0 ? buffers.lifted : buffers.query;
  load_queries(keys, buffers.query);
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
      const int own = position_ + keys.first + i / group;  // position of the query
      const int seen =
          (keys.range == cache::Range::window || keys.range == cache::Range::sink ? own : own - window) + 1 - key;
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
    if (keys.range == cache::Range::window) hide_older(keys, key, buffers);
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
void Attention::hide_older(const KeyRange& keys, int key, WorkerBuffers& buffers) {
  const int group = config_.num_attention_heads / config_.num_key_value_heads;
  for (int i = 0; i < keys.count * group; ++i) {
    const int oldest = position_ + keys.first + i / group + 1 - format_.window;  // that the window holds
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

void Attention::finish_block(int head, int block, const float* sum, float* output) {
  const int dim = config_.head_dim, query_dim = config_.query_dim();
  const int group = config_.num_attention_heads / config_.num_key_value_heads;
  const int first = block * block_tokens(group), count = std::min(block_tokens(group), tokens_ - first);
  for (int i = 0; i < count * group; ++i) {
    const float factor = 1.0f / sum[i];
    for (int j = 0; j < dim; ++j) output[static_cast<std::ptrdiff_t>(i) * dim + j] *= factor;
  }
  for (int t = 0; t < count; ++t)
    std::copy_n(
        output + static_cast<std::ptrdiff_t>(t) * group * dim, group * dim,
        query_ + static_cast<std::ptrdiff_t>(first + t) * query_dim + static_cast<std::ptrdiff_t>(head) * group * dim);
}

// Few queries over many keys are split into spans of keys that are combined in order. The split depends on shape and
// depth alone, so that any number of threads gives the same bits.
void Attention::attend(const LayerCacheStore& cache, int oldest_key) {
  const int dim = config_.head_dim, kv_heads = config_.num_key_value_heads;
  const int group = config_.num_attention_heads / kv_heads;
  const int blocks = ceil_div(tokens_, block_tokens(group)), tasks = blocks * kv_heads;
  const int keys = position_ + tokens_;
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
        attend_block(cache, head, block, oldest_key, keys,
                     work_.partial_maximum + static_cast<std::ptrdiff_t>(slot) * queries, sum, output, worker);
        finish_block(head, block, sum, output);
      });
    }
    return;
  }
  pool_.run(tasks * spans, [&](int slot, int worker) {
    const int task = slot / spans, first = slot % spans * span;
    attend_block(cache, task % kv_heads, task / kv_heads, std::max(first, oldest_key), std::min(first + span, keys),
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
