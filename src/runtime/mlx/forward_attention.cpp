// Gated full attention: project, normalise, RoPE, append, attend, gate, project.
#include <algorithm>
#include <cmath>

#include "runtime/mlx/device.h"
#include "runtime/mlx/forward.h"

namespace tqkv::mlx {
namespace {

// The first rotary_dim channels of x [tokens, heads, head_dim], whose halves are the two numbers of a pair.
mx::array rope(const Pass& pass, const mx::array& x) {
  const int tokens = x.shape(0), heads = x.shape(1), dim = x.shape(2), half = pass.config.rotary_dim / 2;
  const auto part = [&](int first, int last) { return mx::slice(x, {0, 0, first}, {tokens, heads, last}); };
  const mx::array cosine = mx::expand_dims(pass.cosine, 1), sine = mx::expand_dims(pass.sine, 1);
  const mx::array a = part(0, half), b = part(half, 2 * half);
  return mx::concatenate({mx::subtract(mx::multiply(a, cosine), mx::multiply(b, sine)),
                          mx::add(mx::multiply(b, cosine), mx::multiply(a, sine)), part(2 * half, dim)},
                         2);
}

/// Keys and values that the queries of a segment meet, range by range, and which query sees which key.
struct Seen {
  std::vector<mx::array> keys, values;  // blocks [kv heads, tokens, head_dim], each side in the same order of tokens
  int tokens = 0;
  std::optional<mx::array> mask;  // [queries, tokens]; none: query t sees the keys up to its own
};

Seen seen_by(const Segment& segment, const AttentionCache& cache) {
  const KvFormat& format = segment.state->stored;
  const int oldest = segment.position, newest = segment.position + segment.count - 1;
  Seen seen;
  std::vector<int> position, from_window;  // of every key
  for (const cache::KeySpan& span :
       cache::key_spans(format, cache.keys.format(), cache.values.format(), oldest, newest, 0, newest + 1)) {
    if (span.from >= span.to) continue;
    for (mx::array& block : cache.keys.decoded(span.range, span.from, span.to)) seen.keys.push_back(std::move(block));
    for (mx::array& block : cache.values.decoded(span.range, span.from, span.to))
      seen.values.push_back(std::move(block));
    for (int key = span.from; key < span.to; ++key) {
      position.push_back(key);
      from_window.push_back(span.range == cache::Range::window ? 1 : span.range == cache::Range::sink ? 2 : 0);
    }
  }
  seen.tokens = static_cast<int>(position.size());
  const bool coded =
      cache.keys.format().kind != SideFormat::Kind::plain || cache.values.format().kind != SideFormat::Kind::plain;
  const int window = coded ? format.window : 0;
  if (window == 0) return seen;  // ranges in the order of tokens

  // Each pair of a query and a key is served by one range: the window where the key is one of the query's newest.
  const auto row = [](const std::vector<int>& values) {
    return mx::array(values.begin(), {1, static_cast<int>(values.size())}, mx::int32);
  };
  const mx::array key = row(position), range = row(from_window);
  const mx::array query = mx::expand_dims(mx::add(mx::arange(segment.count), mx::array(oldest)), 1);
  const mx::array newest_of_query = mx::greater(key, mx::subtract(query, mx::array(window)));
  const mx::array served =
      mx::logical_or(mx::equal(range, mx::array(2)), mx::equal(newest_of_query, mx::equal(range, mx::array(1))));
  seen.mask = mx::logical_and(mx::less_equal(key, query), served);
  return seen;
}

/// A run of tokens of both sides, at the same places of their arrays.
struct SharedRun {
  Payload keys, values;
  int from, to, position;
};

// Where a side has no store for a range, its tokens lie elsewhere than those of the other one: they are copied then.
std::vector<SharedRun> shared_runs(const RangeStore& keys, const RangeStore& values, int first, int last) {
  std::vector<SharedRun> shared;
  for (const Run& k : keys.runs(first, last)) {
    for (const Run& v : values.runs(k.position, k.position + k.to - k.from)) {
      const int count = v.to - v.from, from = k.from + v.position - k.position;
      if (from == v.from) {
        shared.push_back({*k.arrays, *v.arrays, from, from + count, v.position});
        continue;
      }
      SharedRun run{tokens_of(*k.arrays, from, from + count), tokens_of(*v.arrays, v.from, v.to), 0, count, v.position};
      for (Payload* side : {&run.keys, &run.values})
        for (mx::array& part : *side) part = mx::contiguous(part);
      shared.push_back(std::move(run));
    }
  }
  return shared;
}

// One query [heads, head_dim] over what is stored, as it is stored: by the kernel, or by operations of MLX.
mx::array over_stored(const mx::array& query, const Segment& segment, const AttentionCache& cache, float scale) {
  const CacheSide &keys = cache.keys, &values = cache.values;
  const int heads = query.shape(0), dim = query.shape(1), position = segment.position;
  const int kv = keys.served(cache::Range::main).store.codec().kv_heads(), group = heads / kv;
  const auto by_group = [&](const mx::array& x) { return mx::reshape(x, {kv, group, dim}); };
  const mx::array plain = by_group(mx::multiply(query, mx::array(scale))), rotated = keys.to_basis(plain);
  std::optional<mx::array> mean_scores;
  if (keys.mean_tokens() > 0)
    mean_scores = mx::reshape(mx::sum(mx::multiply(plain, mx::expand_dims(*keys.key_sum, 1)), -1), {heads});

  std::vector<Partial> parts, rotated_parts;  // by the basis of the values
  for (const cache::KeySpan& span :
       cache::key_spans(segment.state->stored, keys.format(), values.format(), position, position, 0, position + 1)) {
    if (span.from >= span.to) continue;
    const CacheSide::Served k = keys.served(span.range), v = values.served(span.range);
    const SideFormat &key_format = k.store.codec().format(), &value_format = v.store.codec().format();
    const bool kernel = cache.attend && has_kernel(key_format, value_format, heads, kv, dim);
    for (SharedRun& run : shared_runs(k.store, v.store, span.from, span.to)) {
      AttentionInput input{mx::reshape(k.rotated ? rotated : plain, {heads, dim}),
                           {key_format, std::move(run.keys)},
                           {value_format, std::move(run.values)},
                           run.from,
                           run.to};
      if (span.range != cache::Range::sink) {
        input.mean_scores = mean_scores;
        input.mean_from = std::max(0, keys.mean_tokens() - run.position + run.from);
      }
      (v.rotated ? rotated_parts : parts).push_back(kernel ? attend(cache.attend, input) : attend_plain(input));
    }
  }
  if (!rotated_parts.empty()) {
    Partial one = as_one(rotated_parts);
    one.values = mx::reshape(values.from_basis(by_group(one.values)), {heads, 1, dim});
    parts.push_back(std::move(one));
  }
  return join(parts);
}

// Queries [1, heads, n, head_dim] that see `mask` or, without one, the keys up to their own, the last query all of
// them.
mx::array attend(const MlxEngine& engine, const mx::array& q, const mx::array& keys, const mx::array& values,
                 float scale, const std::optional<mx::array>& mask) {
  // MLX's attention has fused forms of this head size that it does not choose by itself on most GPUs: where scores take
  // much memory they are asked for.
  const std::uint64_t scores = std::uint64_t{4} * static_cast<std::uint64_t>(q.shape(1)) *
                               static_cast<std::uint64_t>(q.shape(2)) * static_cast<std::uint64_t>(keys.shape(2));
  const bool fused = !on_processor() && scores > most_scores;
  if (fused) engine.paths().tell("prompt attention", "MLX's, fused where scores take more than 256 MB");
  return mx::fast::scaled_dot_product_attention(q, keys, values, scale, mask ? "" : "causal", mask, std::nullopt,
                                                fused);
}

// Several queries: one plain array a side, which lives as long as this layer.
mx::array over_all(const MlxEngine& engine, const mx::array& any, const Seen& seen, float scale) {
  const mx::Dtype type = engine.arrays().type;
  Pace& pace = engine.pace();
  const mx::array query = mx::astype(any, type);
  const auto whole = [type](const std::vector<mx::array>& blocks) {
    std::vector<mx::array> own;
    own.reserve(blocks.size());
    for (const mx::array& block : blocks) own.push_back(mx::astype(block, type));
    return mx::expand_dims(own.size() == 1 ? own.front() : mx::concatenate(own, 1), 0);
  };
  const mx::array keys = whole(seen.keys), values = whole(seen.values);
  const int heads = query.shape(0), tokens = query.shape(1), dim = query.shape(2), before = seen.tokens - tokens;
  std::vector<mx::array> parts;
  for (int first = 0; first < tokens; first += queries_at_once) {
    const int last = std::min(tokens, first + queries_at_once);
    const mx::array q = mx::expand_dims(mx::slice(query, {0, first, 0}, {heads, last, dim}), 0);
    if (seen.mask) {
      const mx::array mask = mx::slice(*seen.mask, {first, 0}, {last, seen.tokens});
      parts.push_back(attend(engine, q, keys, values, scale, mask));
    } else {  // a block sees nothing behind its last query
      const mx::Shape start{0, 0, 0, 0}, stop{1, keys.shape(1), before + last, dim};
      parts.push_back(attend(engine, q, mx::slice(keys, start, stop), mx::slice(values, start, stop), scale, {}));
    }
    if (tokens > queries_at_once) pace.add(parts.back());
  }
  pace.finish();
  return mx::squeeze(parts.size() == 1 ? parts.front() : mx::concatenate(parts, 2), 0);
}

void observe(const Segment& segment, const AttentionCache& cache, const mx::array& keys, const mx::array& values) {
  mx::array k = mx::contiguous(keys), v = mx::contiguous(values);
  mx::eval(k, v);
  segment.observer->keys_values(cache.layer, {k.data<float>(), k.size()}, {v.data<float>(), v.size()}, segment.count);
}

}  // namespace

mx::array full_attention(const Pass& pass, std::size_t index, const AttentionArrays& weights, const mx::array& normed) {
  const ModelConfig& config = pass.config;
  const int tokens = normed.shape(0), heads = config.num_attention_heads, kv = config.num_key_value_heads;
  const int dim = config.head_dim;
  const mx::array query_gate = mx::reshape(weights.q_proj(normed), {tokens, heads, 2 * dim});
  const mx::array gate = mx::slice(query_gate, {0, 0, dim}, {tokens, heads, 2 * dim});
  const mx::array query =
      rope(pass, rms_norm(config, mx::slice(query_gate, {0, 0, 0}, {tokens, heads, dim}), weights.q_norm));
  const mx::array key =
      rope(pass, rms_norm(config, mx::reshape(weights.k_proj(normed), {tokens, kv, dim}), weights.k_norm));
  const mx::array value = mx::astype(mx::reshape(weights.v_proj(normed), {tokens, kv, dim}), mx::float32);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));

  std::vector<mx::array> mixed;
  for (const Segment& segment : pass.segments) {
    AttentionCache& cache = segment.state->caches[index];
    const mx::array keys = segment.of(key), values = segment.of(value);
    if (segment.observer) observe(segment, cache, keys, values);
    cache.keys.append(keys, segment.position);
    cache.values.append(values, segment.position);
    const mx::array queries = mx::transpose(segment.of(query), {1, 0, 2});  // [heads, tokens, head_dim]
    const mx::array out = segment.count == 1
                              ? mx::expand_dims(over_stored(mx::squeeze(queries, 1), segment, cache, scale), 1)
                              : over_all(pass.engine, queries, seen_by(segment, cache), scale);
    mixed.push_back(mx::transpose(out, {1, 0, 2}));
    cache.keys.drop_for(segment.position + segment.count);
    cache.values.drop_for(segment.position + segment.count);
    if (segment.keep) segment.keep->sides.push_back({cache.keys.snapshot(), cache.values.snapshot()});
  }
  const mx::array all = mixed.size() == 1 ? mixed.front() : mx::concatenate(mixed, 0);
  return weights.o_proj(mx::reshape(mx::multiply(all, mx::sigmoid(gate)), {tokens, heads * dim}));
}

}  // namespace tqkv::mlx
