#include "cache/accounting.h"

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

std::uint64_t vector_bytes(const ModelConfig& config, const KvFormat& format) {
  return codec::side_codec(format.k, config.head_dim).vector_bytes() +
         codec::side_codec(format.v, config.head_dim).vector_bytes();
}

}  // namespace

int pages_for(int tokens) {
  return static_cast<int>(count(tokens, "the number of tokens") / page_tokens) + (tokens % page_tokens != 0 ? 1 : 0);
}

std::uint64_t bytes_per_token(const ModelConfig& config, const KvFormat& format) {
  return product({count(config.attention_layers(), "the number of attention layers"),
                  count(config.num_key_value_heads, "the number of key-value heads"), vector_bytes(config, format)});
}

CacheBytes cache_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state, int conv_bits) {
  if (conv_bits != 16 && conv_bits != 32)
    throw Error(ErrorKind::internal,
                fmt::format("cache size: {} bits of convolution state, expected 16 or 32", conv_bits));
  const std::uint64_t token_bytes = bytes_per_token(config, format);
  const auto linear_layers = count(config.linear_layers(), "the number of linear layers");
  CacheBytes bytes;
  bytes.kv_used = product({token_bytes, count(tokens, "the number of tokens")});
  bytes.kv_allocated =
      product({token_bytes, static_cast<std::uint64_t>(pages_for(tokens)), std::uint64_t{page_tokens}});
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
}

}  // namespace tqkv::cache
