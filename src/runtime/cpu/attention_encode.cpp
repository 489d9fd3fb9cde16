// One side of a chunk into its pages.
#include <algorithm>
#include <span>
#include <vector>

#include "runtime/cpu/attention.h"
#include "runtime/cpu/lift.h"

namespace tqkv::cpu {
namespace {

// The mean of the keys before mean_tokens(), summed token by token, so that chunks do not matter.
void sum_keys(const AttentionChunk& chunk, CacheSide& side, Rows<const float> x) {
  const int begin = chunk.position, end = std::min(begin + chunk.tokens(), side.mean_tokens());
  std::vector<float>& sum = side.key_sum;  // of all heads, as a row has them
  for (int token = begin; token < end; ++token) chunk.kernels.vector.add(sum.data(), x.row(token - begin), sum.size());
  if (end == side.mean_tokens())
    for (float& channel : sum) channel /= static_cast<float>(side.mean_tokens());
}

// A split side chooses its channels by what they hold in tokens 0 to 255 as these are coded, summed token by token, so
// that chunks do not matter.
void sum_squares(const AttentionChunk& chunk, CacheSide& side, Rows<const float> x, int layer) {
  const int dim = chunk.config.head_dim;
  const int begin = chunk.position, end = std::min(begin + chunk.tokens(), cache::page_tokens);
  for (int head = 0; head < chunk.config.num_key_value_heads; ++head) {
    auto& squares = side.squares[static_cast<std::size_t>(head)];
    for (int token = begin; token < end; ++token) {
      const float* row = x.slice(head * dim, dim).row(token - begin);
      const bool centred = side.mean_tokens() > 0 && token >= side.mean_tokens();
      for (std::size_t c = 0; c < squares.size(); ++c) {
        const double value = centred ? row[c] - side.mean(head)[c] : row[c];
        squares[c] += value * value;
      }
    }
    if (end == cache::page_tokens)
      side.main_basis.push_back(
          codec::Basis::split(codec::strongest_channels(squares), chunk.format.seed, layer, head, dim));
  }
}

// x: vectors of a head, of tokens from `first` on. A run of them ends with its page.
void store(const Kernels& kernels, const SidePages& pages, int head, int first, Rows<const float> x) {
  for (int i = 0; i < x.rows;) {
    const int token = first + i;
    const int run = std::min(x.rows - i, cache::page_tokens - token % cache::page_tokens);
    kernels.attention.encode(pages.codec(), x.row(i), x.stride, run, pages.codes(head, token),
                             pages.scalars(head, token));
    i += run;
  }
}

// The same to the pages of every range that serves one of the tokens.
void encode_head(const AttentionChunk& chunk, const CacheSide& side, int head, int first, Rows<float> x) {
  const Kernels& kernels = chunk.kernels;
  const auto at = static_cast<std::size_t>(head);
  const int last = first + x.rows;
  if (side.sink) store(kernels, *side.sink, head, first, x.first(std::clamp(chunk.format.sink - first, 0, x.rows)));
  if (side.mean_tokens() > 0) {
    const std::span<const float> mean = side.mean(head);
    for (int token = std::max(first, side.mean_tokens()); token < last; ++token)
      kernels.vector.add_scaled(x.row(token - first), mean.data(), -1.0f, mean.size());
  }
  if (side.window) store(kernels, *side.window, head, first, x);
  const int early = side.first ? std::clamp(cache::page_tokens - first, 0, x.rows) : 0;  // tokens before the split
  if (early > 0) {
    to_basis(kernels, side.first_basis[at], x.first(early));
    store(kernels, *side.first, head, first, x.first(early));
  }
  if (early == x.rows) return;
  to_basis(kernels, side.main_basis[at], x.from(early));
  store(kernels, side.main, head, first + early, x.from(early));
}

}  // namespace

void encode(const AttentionChunk& chunk, CacheSide& side, Rows<float> x, int layer) {
  const int kv_heads = chunk.config.num_key_value_heads, dim = chunk.config.head_dim;
  if (chunk.position < side.mean_tokens()) sum_keys(chunk, side, x);
  if (side.split() && !side.chosen()) sum_squares(chunk, side, x, layer);
  chunk.pool.run(ceil_div(x.rows, row_block) * kv_heads, [&](int task, int) {
    const int head = task % kv_heads, first = task / kv_heads * row_block;
    const Rows<float> block = x.sub(first, std::min(row_block, x.rows - first));
    encode_head(chunk, side, head, chunk.position + first, block.slice(head * dim, dim));
  });
}

}  // namespace tqkv::cpu
