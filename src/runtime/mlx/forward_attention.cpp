// Gated full attention: project, normalise, RoPE, append, attend, gate, project.
#include <cmath>

#include "runtime/mlx/forward.h"

namespace tqkv::mlx {
namespace {

constexpr int fewest_for_prefill = 9;  // queries; below it every block of keys is read where it lies

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

// Few queries [heads, tokens, head_dim] over blocks of keys and values, which are not copied.
mx::array over_blocks(const mx::array& query, const AttentionCache& cache, float scale) {
  const auto& keys = cache.keys.blocks();
  const int heads = query.shape(0), tokens = query.shape(1), dim = query.shape(2), kv = keys.front().shape(0);
  const int group = heads / kv, all = cache.keys.tokens();
  const mx::array q = mx::reshape(mx::multiply(query, mx::array(scale)), {kv, group * tokens, dim});
  std::vector<mx::array> scores;
  for (const mx::array& block : keys) scores.push_back(mx::matmul(q, mx::swapaxes(block, 1, 2)));
  mx::array joined = scores.size() == 1 ? scores.front() : mx::concatenate(scores, 2);
  if (tokens > 1) {  // query t sees the keys up to its own
    const mx::array position = mx::add(mx::arange(tokens), mx::array(all - tokens));
    const mx::array seen = mx::less_equal(mx::arange(all), mx::expand_dims(position, 1));
    joined = mx::reshape(mx::where(seen, mx::reshape(joined, {kv, group, tokens, all}), mx::array(-INFINITY)),
                         {kv, group * tokens, all});
  }
  const mx::array weights = mx::softmax(joined, -1);
  std::optional<mx::array> sum;
  int first = 0;
  for (const mx::array& block : cache.values.blocks()) {
    const int count = block.shape(1);
    const mx::array part = mx::matmul(mx::slice(weights, {0, 0, first}, {kv, group * tokens, first + count}), block);
    sum = sum ? mx::add(*sum, part) : part;
    first += count;
  }
  return mx::reshape(*sum, {heads, tokens, dim});
}

// Many queries: one plain array a side, which lives as long as this layer.
mx::array over_all(const mx::array& query, const AttentionCache& cache, float scale) {
  const auto whole = [](const PlainSide& side) {
    return mx::expand_dims(side.blocks().size() == 1 ? side.blocks().front() : mx::concatenate(side.blocks(), 1), 0);
  };
  return mx::squeeze(mx::fast::scaled_dot_product_attention(mx::expand_dims(query, 0), whole(cache.keys),
                                                            whole(cache.values), scale, "causal"),
                     0);
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
  const mx::array value = mx::reshape(weights.v_proj(normed), {tokens, kv, dim});
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));

  std::vector<mx::array> mixed;
  for (const Segment& segment : pass.segments) {
    AttentionCache& cache = segment.state->caches[index];
    const mx::array keys = segment.of(key), values = segment.of(value);
    if (segment.observer) observe(segment, cache, keys, values);
    cache.keys.append(keys);
    cache.values.append(values);
    const mx::array queries = mx::transpose(segment.of(query), {1, 0, 2});
    const mx::array out =
        segment.count < fewest_for_prefill ? over_blocks(queries, cache, scale) : over_all(queries, cache, scale);
    mixed.push_back(mx::transpose(out, {1, 0, 2}));
  }
  const mx::array all = mixed.size() == 1 ? mixed.front() : mx::concatenate(mixed, 0);
  return weights.o_proj(mx::reshape(mx::multiply(all, mx::sigmoid(gate)), {tokens, heads * dim}));
}

}  // namespace tqkv::mlx
