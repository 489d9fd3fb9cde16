#include "runtime/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/float16.h"
#include "runtime/cpu/lift.h"

namespace tqkv::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The queries of one KV head for `tokens` tokens from `first` of the chunk on: query i is query head i % group of
/// token i / group.
struct QueryBlock {
  const AttentionChunk& chunk;
  const LayerCacheStore& cache;
  int head, first, tokens;
  WorkerBuffers& buffers;

  int group() const { return chunk.group(); }
  int queries() const { return tokens * group(); }
  int position_of(int query) const { return chunk.position + first + query / group(); }
  // The heads of token t in the chunk's queries.
  Rows<float> heads(int t) const {
    return chunk.query.heads(first + t, chunk.config.num_attention_heads).sub(head * group(), group());
  }
};

/// What the queries of a block have gathered from the keys that they met: the running softmax.
struct Gathered {
  float* maximum;      // [queries]
  float* sum;          // [queries]
  Rows<float> output;  // [queries, dim], in the channels of the head, not divided by `sum`

  static Gathered of(Workspace& work, int part) {
    const int queries = work.partial_maximum.columns;
    return {work.partial_maximum.row(part), work.partial_sum.row(part),
            work.partial_output.sub(part * queries, queries)};
  }
};

/// One side of one range.
struct RangeSide {
  const SidePages& pages;
  const codec::Basis& basis;
  bool packed;  // kernels read it as it is stored

  const codec::SideCodec& codec() const { return pages.codec(); }
};

void load_queries(const QueryBlock& block) {
  for (int t = 0; t < block.tokens; ++t)
    copy(block.heads(t), block.buffers.query.sub(t * block.group(), block.group()));
}

// How many of the keys key..key+n-1 each query sees of one range. The window's oldest keys are hidden later.
void count_visible(const QueryBlock& block, cache::Range range, int key, int n) {
  const auto& cache = block.cache;
  const int window = cache.keys.window || cache.values.window ? block.chunk.format.window : 0;
  const bool newest =
      range == cache::Range::window || range == cache::Range::sink;  // ranges that no window takes keys from
  for (int i = 0; i < block.queries(); ++i) {
    const int seen = block.position_of(i) - (newest ? 0 : window) + 1 - key;
    block.buffers.visible[i] = std::clamp(seen, 0, n);
  }
}

// Keys older than a query's window are another range's. A query that sees none of a tile's keys has none visible; of
// the others at least one is left.
void hide_older(const QueryBlock& block, int key) {
  int* visible = block.buffers.visible;
  for (int i = 0; i < block.queries(); ++i) {
    const int oldest = block.position_of(i) + 1 - block.chunk.format.window;  // that the window holds
    const int hidden = std::min(oldest - key, visible[i]);
    if (hidden <= 0) continue;
    if (hidden == visible[i])
      visible[i] = 0;
    else
      std::fill_n(block.buffers.scores.row(i), hidden, -infinity);
  }
}

// Scores of the keys key..key+n-1 of a tile.
void score(const QueryBlock& block, const RangeSide& side, const AttentionState& scoring, int key, int n) {
  const AttentionKernels& kernels = block.chunk.kernels.attention;
  const WorkerBuffers& buffers = block.buffers;
  const std::byte *codes = side.pages.codes(block.head, key), *scalars = side.pages.scalars(block.head, key);
  if (side.packed) {
    kernels.packed_scores(side.codec(), codes, scalars, n, buffers.query8, buffers.visible, buffers.scores.data,
                          buffers.packed);
  } else {
    kernels.decode(side.codec(), codes, scalars, n, buffers.keys.data);
    kernels.scores(scoring, buffers.keys.data, n, buffers.visible, buffers.scores.data);
  }
}

// Their values, times weights.
void add_values(const QueryBlock& block, const RangeSide& side, AttentionState& state, int key, int n) {
  const AttentionKernels& kernels = block.chunk.kernels.attention;
  const WorkerBuffers& buffers = block.buffers;
  const std::byte *codes = side.pages.codes(block.head, key), *scalars = side.pages.scalars(block.head, key);
  if (side.packed) {
    kernels.add_packed_values(side.codec(), codes, scalars, n, state, buffers.visible, buffers.scores.data,
                              buffers.packed);
  } else {
    kernels.decode(side.codec(), codes, scalars, n, buffers.values.data);
    kernels.add_values(state, buffers.values.data, n, buffers.visible, buffers.scores.data);
  }
}

// Keys of one range. What ranges before have gathered shrinks when this one moves the maximum.
void attend_range(const QueryBlock& block, const cache::KeySpan& span, const Gathered& gathered) {
  const Kernels& kernels = block.chunk.kernels;
  const AttentionKernels& attention = kernels.attention;
  const WorkerBuffers& buffers = block.buffers;
  const bool fast = block.chunk.precision == Precision::fast;
  const int queries = block.queries();
  const SourceSide key_source = source_of(block.cache.keys, span.range, block.head),
                   value_source = source_of(block.cache.values, span.range, block.head);
  const codec::SideCodec &key_codec = key_source.pages->codec(), &value_codec = value_source.pages->codec();
  const RangeSide keys{*key_source.pages, *key_source.basis, fast && attention.packed_keys(key_codec)};
  const RangeSide values{*value_source.pages, *value_source.basis, fast && attention.packed_values(value_codec)};

  load_queries(block);
  const Rows<float> plain = buffers.query.first(queries);
  const Rows<float> query = key_codec.signs > 0 ? buffers.lifted.as(queries, key_codec.space()) : plain;
  lift(kernels, key_codec, keys.basis, plain, query, buffers.lift);
  if (keys.packed) attention.quantize_queries(key_codec, query.data, queries, &block.buffers.query8);
  std::copy_n(gathered.maximum, queries, buffers.maximum);
  const Rows<float> sums = buffers.sums.as(queries, value_codec.space());
  fill(sums, 0.0f);

  const AttentionState scoring{queries, query.columns, query.data, nullptr, nullptr, nullptr};
  AttentionState state{queries, sums.columns, query.data, gathered.maximum, gathered.sum, sums.data};
  for (int key = span.from; key < span.to;) {
    const int n = std::min(tile_keys - key % tile_keys, span.to - key);  // a tile never crosses a page
    count_visible(block, span.range, key, n);
    score(block, keys, scoring, key, n);
    if (span.range == cache::Range::window) hide_older(block, key);
    attention.weigh(state, n, buffers.visible, buffers.scores.data);
    add_values(block, values, state, key, n);
    key += n;
  }
  if (values.packed) attention.natural_order(value_codec, state);

  const Rows<float> lowered = buffers.lowered.first(queries);
  lower(kernels, value_codec, values.basis, sums, lowered, buffers.lift);
  for (int i = 0; i < queries; ++i) {
    float* row = gathered.output.row(i);
    const float *own = lowered.row(i), before = buffers.maximum[i];
    const float factor = before == -infinity ? 0.0f : std::exp(before - gathered.maximum[i]);
    for (int c = 0; c < lowered.columns; ++c) row[c] = row[c] * factor + own[c];
  }
}

// Keys of the sink are stored as they are, others from mean_tokens() on minus the mean μ. q·(k - μ) = q·k - q·μ: what a
// query has gathered from the sink becomes what centred keys would have given by moving its maximum.
void centre_scores(const QueryBlock& block, float* maximum) {
  const AttentionKernels& kernels = block.chunk.kernels.attention;
  const WorkerBuffers& buffers = block.buffers;
  const CacheSide& side = block.cache.keys;
  const Rows<float> query = buffers.query.first(block.queries());
  load_queries(block);
  // With the rounding that the sink's scores have: an error of the query times μ must not stay.
  if (block.chunk.precision == Precision::fast && kernels.packed_keys(side.sink->codec()))
    for (float& channel : query.span()) channel = bf16_to_f32(f32_to_bf16(channel));
  std::fill_n(buffers.visible, query.rows, 1);
  const AttentionState state{query.rows, query.columns, query.data, nullptr, nullptr, nullptr};
  kernels.scores(state, side.mean(block.head).data(), 1, buffers.visible, buffers.scores.data);
  for (int i = 0; i < query.rows; ++i)
    if (block.position_of(i) >= side.mean_tokens()) maximum[i] -= buffers.scores.at(i, 0);
}

// One block of queries against keys first..last-1.
void attend_block(const QueryBlock& block, int first, int last, const Gathered& gathered) {
  std::fill_n(gathered.maximum, block.queries(), -infinity);
  std::fill_n(gathered.sum, block.queries(), 0.0f);
  fill(gathered.output.first(block.queries()), 0.0f);
  const int oldest = block.position_of(0), newest = oldest + block.tokens - 1;
  for (const cache::KeySpan& span :
       cache::key_spans(block.chunk.format, block.cache.keys.format(), block.cache.values.format(), oldest, newest,
                        first, std::min(last, newest + 1))) {
    if (span.from >= span.to) continue;
    attend_range(block, span, gathered);
    if (span.range == cache::Range::sink && block.cache.keys.mean_tokens() > 0) centre_scores(block, gathered.maximum);
  }
}

// Divided by the sum of weights, to where the queries were.
void finish_block(const QueryBlock& block, const Gathered& gathered) {
  for (int i = 0; i < block.queries(); ++i) {
    const float factor = 1.0f / gathered.sum[i];
    float* row = gathered.output.row(i);
    for (int c = 0; c < gathered.output.columns; ++c) row[c] *= factor;
  }
  for (int t = 0; t < block.tokens; ++t) copy(gathered.output.sub(t * block.group(), block.group()), block.heads(t));
}

// Parts first..first+count-1, each of one span of keys, to the first one, in order.
void combine(const AttentionChunk& chunk, int queries, int first, int count) {
  const Rows<float> maxima = chunk.work.partial_maximum.sub(first, count),
                    sums = chunk.work.partial_sum.sub(first, count);
  const auto part = [&](int s) { return Gathered::of(chunk.work, first + s).output; };
  const Rows<float> whole = part(0);
  for (int i = 0; i < queries; ++i) {
    float maximum = -infinity;
    for (int s = 0; s < count; ++s) maximum = std::max(maximum, maxima.at(s, i));
    float total = 0;
    float* output = whole.row(i);
    for (int s = 0; s < count; ++s) {
      const float factor = std::exp(maxima.at(s, i) - maximum);
      total += factor * sums.at(s, i);
      if (s == 0)
        for (int c = 0; c < whole.columns; ++c) output[c] *= factor;
      else
        chunk.kernels.vector.add_scaled(output, part(s).row(i), factor, whole.sub(i, 1).size());
    }
    sums.at(0, i) = total;
  }
}

}  // namespace

// Few queries over many keys are split into spans of keys that are combined in order. The split depends on shape and
// depth alone, so that any number of threads gives the same bits.
void attend(const AttentionChunk& chunk, const LayerCacheStore& cache, int oldest_key) {
  const int kv_heads = chunk.config.num_key_value_heads, most_tokens = block_tokens(chunk.group());
  const int tasks = ceil_div(chunk.tokens(), most_tokens) * kv_heads;  // one for each block and KV head
  const int keys = chunk.position + chunk.tokens();
  const int most_spans = std::max(1, attention_partials / tasks);
  const int span = ceil_div(std::max(span_keys, ceil_div(keys, most_spans)), cache::page_tokens) * cache::page_tokens;
  const int spans = ceil_div(keys, span);
  const auto block_of = [&](int task, int worker) {
    const int first = task / kv_heads * most_tokens;
    return QueryBlock{
        chunk, cache, task % kv_heads, first, std::min(most_tokens, chunk.tokens() - first), chunk.work.worker(worker)};
  };
  if (tasks * spans > attention_partials || spans == 1) {
    // There are attention_partials parts: that many tasks at a time take turns in them.
    for (int begin = 0; begin < tasks; begin += attention_partials) {
      chunk.pool.run(std::min(attention_partials, tasks - begin), [&](int part, int worker) {
        // The longest blocks first, so that the last task to end is a short one.
        const QueryBlock block = block_of(tasks - 1 - (begin + part), worker);
        const Gathered gathered = Gathered::of(chunk.work, part);
        attend_block(block, oldest_key, keys, gathered);
        finish_block(block, gathered);
      });
    }
    return;
  }
  chunk.pool.run(tasks * spans, [&](int part, int worker) {
    const int first = part % spans * span;
    attend_block(block_of(part / spans, worker), std::max(first, oldest_key), std::min(first + span, keys),
                 Gathered::of(chunk.work, part));
  });
  chunk.pool.run(tasks, [&](int task, int worker) {
    const QueryBlock block = block_of(task, worker);
    combine(chunk, block.queries(), task * spans, spans);
    finish_block(block, Gathered::of(chunk.work, task * spans));
  });
}

}  // namespace tqkv::cpu
