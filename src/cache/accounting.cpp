#include "cache/accounting.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>

#include "codec/side_codec.h"
#include "tqkv/error.h"

namespace tqkv::cache {
namespace {

std::uint64_t count(int value, const char* what) {
  if (value < 0) throw Error(ErrorKind::usage, fmt::format("cache size: {} is {}, it cannot be negative", what, value));
  return static_cast<std::uint64_t>(value);
}

std::uint64_t product(std::initializer_list<std::uint64_t> factors) {
  std::uint64_t result = 1;
  for (const std::uint64_t factor : factors) {
    if (__builtin_mul_overflow(result, factor, &result))
      throw Error(ErrorKind::memory, "cache size: it does not fit 64 bits; ask for a shorter context");
  }
  return result;
}

std::uint64_t vector_bytes(const SideFormat& side, int dim) {
  return codec::side_codec(side, dim).vector_bytes();
}

struct Tokens {
  std::uint64_t used = 0, allocated = 0;
  void add(std::uint64_t bytes, int tokens, int pages) {
    used += product({bytes, count(tokens, "the number of tokens")});
    allocated += product({bytes, static_cast<std::uint64_t>(pages), std::uint64_t{page_tokens}});
  }
};

// One head of one side of one layer with `tokens` tokens.
Tokens side_bytes(const KvFormat& format, const SideFormat& side, int dim, int tokens) {
  Tokens bytes;
  const bool split = side.kind == SideFormat::Kind::split;
  const int before = split ? std::min(tokens, page_tokens) : 0;
  bytes.add(vector_bytes(side, dim), tokens - before, pages_for(tokens) - pages_for(before));
  if (split) bytes.add(vector_bytes(format_before_split(side), dim), before, pages_for(before));
  if (side.kind == SideFormat::Kind::plain) return bytes;
  const std::uint64_t plain = vector_bytes(SideFormat{}, dim);
  const int sink = std::min(tokens, format.sink), window = std::min(tokens, format.window);
  bytes.add(plain, sink, pages_for(sink));
  if (window > 0) bytes.add(plain, window, pages_for(tokens) - (tokens - window) / page_tokens);
  return bytes;
}

// Over all attention layers and heads.
template <class Bytes>
std::uint64_t over_layers(const ModelConfig& config, const KvFormat& format, const Bytes& bytes) {
  const int layers = config.attention_layers();
  std::uint64_t sum = 0;
  for (int layer = 0; layer < layers; ++layer) {
    const auto sides = format.sides(layer, layers);
    for (const SideFormat& side : {sides.k, sides.v}) {
      if (__builtin_add_overflow(sum, bytes(side), &sum)) product({~std::uint64_t{0}, 2});
    }
  }
  return product({sum, count(config.num_key_value_heads, "the number of key-value heads")});
}

}  // namespace

int pages_for(int tokens) {
  return static_cast<int>(count(tokens, "the number of tokens") / page_tokens) + (tokens % page_tokens != 0 ? 1 : 0);
}

std::uint64_t bytes_per_token(const ModelConfig& config, const KvFormat& format) {
  return over_layers(config, format, [&](const SideFormat& side) { return vector_bytes(side, config.head_dim); });
}

int widest_vector(const ModelConfig& config, const KvFormat& format) {
  return std::max({config.head_dim, codec::side_codec(format.k, config.head_dim).space(),
                   codec::side_codec(format.v, config.head_dim).space()});
}

SideFormat format_before_split(const SideFormat& split) {
  SideFormat format;
  format.kind = SideFormat::Kind::turboquant;
  format.bits = split.bits + 1;
  format.scalar = split.scalar;
  return format;
}

CacheBytes cache_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state, int conv_bits) {
  if (conv_bits != 16 && conv_bits != 32)
    throw Error(ErrorKind::internal,
                fmt::format("cache size: {} bits of convolution state, expected 16 or 32", conv_bits));
  const auto linear_layers = count(config.linear_layers(), "the number of linear layers");
  CacheBytes bytes;
  const auto sides = [&](const SideFormat& side) { return side_bytes(format, side, config.head_dim, tokens); };
  bytes.kv_used = over_layers(config, format, [&](const SideFormat& side) { return sides(side).used; });
  bytes.kv_allocated = over_layers(config, format, [&](const SideFormat& side) { return sides(side).allocated; });
  bytes.recurrent =
      product({linear_layers, count(config.linear_num_value_heads, "the number of value heads"),
               count(config.linear_value_head_dim, "the value head dimension"),
               count(config.linear_key_head_dim, "the key head dimension"), state == StateType::f32 ? 4u : 2u});
  if (linear_layers > 0)
    bytes.convolution = product({linear_layers, count(config.linear_conv_kernel_dim - 1, "the past of the convolution"),
                                 count(config.conv_dim(), "the number of convolution channels"),
                                 static_cast<std::uint64_t>(conv_bits / 8)});
  return bytes;
}

void check_format(const ModelConfig& config, const KvFormat& format) {
  codec::side_codec(format.k, config.head_dim);
  codec::side_codec(format.v, config.head_dim);
  codec::side_codec(format.edge, config.head_dim);
  const int layers = config.attention_layers();
  if (format.boundary > 0 && 2 * format.boundary >= layers)
    throw Error(ErrorKind::format,
                fmt::format("cache format `{}`: {} layers at each end leave none of the {} attention layers compressed",
                            format.canonical(), format.boundary, layers));
}

}  // namespace tqkv::cache
