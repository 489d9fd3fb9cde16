#include "cache/accounting.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error_text.h"
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

constexpr std::uint64_t growth_pages = segment_growth / page_tokens;

struct Tokens {
  std::uint64_t used = 0, allocated = 0;
};

// One head of one side of one layer with `tokens` tokens.
Tokens side_bytes(const KvFormat& format, const SideFormat& side, bool keys, int dim, int tokens,
                  Allocation allocation) {
  Tokens bytes;
  for (const StoredRange& range : stored_ranges(format, side, tokens)) {
    const std::uint64_t vector = vector_bytes(range.vectors, dim);
    bytes.used += product({vector, count(range.tokens(), "the number of tokens")});
    std::uint64_t pages = count(range.pages(), "the number of pages");
    if (allocation == Allocation::segments && range.range == Range::main && pages > 0)
      pages = (pages - 1 + growth_pages - 1) / growth_pages * growth_pages + 1;
    bytes.allocated += product({vector, pages, std::uint64_t{page_tokens}});
  }
  if (keys && format.mean > 0 && side.kind != SideFormat::Kind::plain) {
    const auto mean = sizeof(float) * static_cast<std::uint64_t>(dim);
    bytes.used += mean;
    bytes.allocated += mean;
  }
  return bytes;
}

// Over all attention layers and heads.
template <class Bytes>
std::uint64_t over_layers(const ModelConfig& config, const KvFormat& format, const Bytes& bytes) {
  const int layers = config.attention_layers();
  std::uint64_t sum = 0;
  for (int layer = 0, index = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] != LayerKind::full_attention) continue;
    const auto sides = format.sides(layer, index++, layers);
    for (const bool keys : {true, false}) {
      if (__builtin_add_overflow(sum, bytes(keys ? sides.k : sides.v, keys), &sum)) product({~std::uint64_t{0}, 2});
    }
  }
  return product({sum, count(config.num_key_value_heads, "the number of key-value heads")});
}

template <class Each>
void for_each_side(const KvFormat& format, const Each& each) {
  for (const SideFormat* side : {&format.k, &format.v, &format.edge}) each(*side);
  for (const auto& own : format.layers) {
    each(own.k);
    each(own.v);
  }
}

[[noreturn]] void refuse(const KvFormat& format, const std::string& problem) {
  throw Error(ErrorKind::format, fmt::format("cache format `{}`: {}", format.canonical(), problem));
}

std::vector<int> attention_layers_of(const ModelConfig& config) {
  std::vector<int> attention;
  for (int layer = 0; layer < config.num_layers(); ++layer)
    if (config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) attention.push_back(layer);
  return attention;
}

// Layers with sides of their own are attention layers.
void check_named(const ModelConfig& config, std::span<const int> attention, const KvFormat& format) {
  for (const auto& own : format.layers) {
    if (std::find(attention.begin(), attention.end(), own.layer) != attention.end()) continue;
    refuse(format, fmt::format("{}: the layers with a key-value cache are {}",
                               own.layer < config.num_layers()
                                   ? fmt::format("layer {} has a recurrent state instead", own.layer)
                                   : fmt::format("there is no layer {}", own.layer),
                               fmt::join(attention, ", ")));
  }
}

}  // namespace

int convolution_bits(Precision precision) {
  return precision == Precision::f32 ? 32 : 16;
}

KvFormat as_stored(const KvFormat& format, Precision precision) {
  return precision == Precision::f32 ? format.in_f32() : format;
}

std::uint64_t bytes_per_token(const ModelConfig& config, const KvFormat& format) {
  return over_layers(config, format, [&](const SideFormat& side, bool) { return vector_bytes(side, config.head_dim); });
}

int widest_vector(const ModelConfig& config, const KvFormat& format) {
  int widest = config.head_dim;
  for_each_side(format, [&](const SideFormat& side) {
    widest = std::max(widest, codec::side_codec(side, config.head_dim).space());
  });
  return widest;
}

CacheBytes cache_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state,
                       Precision precision, Allocation allocation) {
  const auto linear_layers = count(config.linear_layers(), "the number of linear layers");
  CacheBytes bytes;
  const auto of_side = [&](const SideFormat& side, bool keys) {
    return side_bytes(format, side, keys, config.head_dim, tokens, allocation);
  };
  bytes.kv_used =
      over_layers(config, format, [&](const SideFormat& side, bool keys) { return of_side(side, keys).used; });
  bytes.kv_allocated =
      over_layers(config, format, [&](const SideFormat& side, bool keys) { return of_side(side, keys).allocated; });
  bytes.recurrent =
      product({linear_layers, count(config.linear_num_value_heads, "the number of value heads"),
               count(config.linear_value_head_dim, "the value head dimension"),
               count(config.linear_key_head_dim, "the key head dimension"), state == StateType::f32 ? 4u : 2u});
  if (linear_layers > 0)
    bytes.convolution = product({linear_layers, count(config.linear_conv_kernel_dim - 1, "the past of the convolution"),
                                 count(config.conv_dim(), "the number of convolution channels"),
                                 static_cast<std::uint64_t>(convolution_bits(precision) / 8)});
  return bytes;
}

// A window lets older tokens go: it touches the most pages where its last token is the first of one.
std::uint64_t snapshot_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state,
                             Precision precision, Allocation allocation) {
  KvFormat without = format;
  without.window = without.mean = 0;
  const int last = tokens - (tokens - 1) % page_tokens;
  const CacheBytes bytes = cache_bytes(config, format, last, state, precision, allocation);
  return bytes.state() + bytes.kv_allocated -
         cache_bytes(config, without, last, state, precision, allocation).kv_allocated;
}

void check_side(const KvFormat& format, const SideFormat& side, int head_dim) {
  try {
    codec::side_codec(side, head_dim);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::format) throw;
    refuse(format, std::string(problem_of(error)));
  }
}

void check_layers(std::span<const int> attention_layers, const KvFormat& format) {
  const int count = static_cast<int>(attention_layers.size());
  if (format.backend == Backend::baseline || (count == 0 && format.boundary == 0)) return;
  bool any = false, keys = false;
  for (int index = 0; index < count; ++index) {
    const auto sides = format.sides(attention_layers[static_cast<std::size_t>(index)], index, count);
    const bool in_boundary = index < format.boundary || index >= count - format.boundary;
    const bool k = sides.k.kind != SideFormat::Kind::plain, v = sides.v.kind != SideFormat::Kind::plain;
    any = any || (!in_boundary && (k || v));
    keys = keys || k;
  }
  if (!any && format.boundary > 0)
    refuse(format, fmt::format("{} layers at each end leave none of the {} attention layers compressed",
                               format.boundary, count));
  if (!any) refuse(format, "layers leaves nothing to compress: ask for baseline");
  if (format.mean > 0 && !keys)
    refuse(format, fmt::format("mean={} is for compressed keys, and layers leaves all of them plain: leave mean out",
                               format.mean));
}

void check_format(const ModelConfig& config, const KvFormat& format) {
  for_each_side(format, [&](const SideFormat& side) { check_side(format, side, config.head_dim); });
  const std::vector<int> attention = attention_layers_of(config);
  check_named(config, attention, format);
  check_layers(attention, format);
}

}  // namespace tqkv::cache
