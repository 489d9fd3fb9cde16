#include "runtime/cpu/layer_attention.h"

#include <algorithm>
#include <optional>

#include "codec/sign_matrix.h"
#include "runtime/cpu/attention.h"
#include "runtime/cpu/device.h"
#include "runtime/cpu/lift.h"
#include "runtime/cpu/scratch.h"
#include "tqkv/model_config.h"

namespace tqkv::cpu {
namespace {

constexpr int chunk_tokens = 256;

ModelConfig config_of(const LayerShape& shape) {
  ModelConfig config;
  config.layers = {LayerKind::full_attention};
  config.num_attention_heads = shape.heads;
  config.num_key_value_heads = shape.kv_heads;
  config.head_dim = shape.head_dim;
  return config;
}

}  // namespace

struct CpuLayerAttention::State {
  State(const LayerShape& a_shape, const KvFormat& a_format, int layer, int index, int count,
        const DeviceOptions& options)
      : shape(a_shape),
        format(cache::as_stored(a_format, options.precision)),
        config(config_of(a_shape)),
        kernel(kernels_of(options.device)),
        pool(threads_of(options.device)),
        work(config, {options.precision, chunk_tokens, 1, 1 << 20, pool.size(), cache::widest_vector(config, format)},
             kernel) {
    reads.resize(static_cast<std::size_t>(shape.kv_heads));
    scratch.resize(lift_scratch(1, shape.head_dim));
    const auto sides = format.sides(layer, index, count);
    cache.emplace_back(layer, CacheSide(codec_of(sides.k), shape.kv_heads, format, layer, true),
                       CacheSide(codec_of(sides.v), shape.kv_heads, format, layer, false));
  }

  codec::SideCodec codec_of(const SideFormat& side) {
    codec::SideCodec codec = codec::side_codec(side, shape.head_dim);
    if (codec.signs == 0) return codec;
    matrices.push_back(std::make_unique<codec::SignMatrix>(side.projection, codec.signs, shape.head_dim, format.seed));
    codec.matrix = matrices.back().get();
    return codec;
  }

  AttentionChunk chunk(int position, int count) {
    return {config, format, work.room.precision, kernel, pool, work, position, work.query.first(count)};
  }

  // One vector of a head out of one range, as it was fed.
  void read(const CacheSide& side, cache::Range range, int head, int token, float* out) {
    const SourceSide source = source_of(side, range, head);
    const codec::SideCodec& codec = source.pages->codec();
    space.resize(static_cast<std::size_t>(codec.space()));
    kernel.attention.decode(codec, source.pages->codes(head, token), source.pages->scalars(head, token), 1,
                            space.data());
    lower(kernel, codec, *source.basis, {space.data(), 1, codec.space()}, {out, 1, codec.dim}, scratch.data());
    if (range != cache::Range::sink && side.mean_tokens() > 0 && token >= side.mean_tokens())
      kernel.vector.add(out, side.mean(head).data(), side.mean(head).size());
  }

  // What seen() has read of a KV head, and the range that each token was read from.
  struct Read {
    std::vector<float> keys, values;
    std::vector<std::optional<cache::Range>> ranges;
  };

  LayerShape shape;
  KvFormat format;
  ModelConfig config;
  const Kernels& kernel;
  ThreadPool pool;
  Workspace work;
  std::vector<std::unique_ptr<codec::SignMatrix>> matrices;
  std::vector<LayerCacheStore> cache;  // one, made when its codecs are
  std::vector<Read> reads;             // [kv heads]
  std::vector<float> space, scratch;
  int tokens = 0;
};

CpuLayerAttention::CpuLayerAttention(const LayerShape& shape, const KvFormat& format, int layer, int index, int count,
                                     const DeviceOptions& options)
    : state_(std::make_unique<State>(shape, format, layer, index, count, options)) {}
CpuLayerAttention::~CpuLayerAttention() = default;

void CpuLayerAttention::feed(std::span<const float> keys, std::span<const float> values) {
  State& s = *state_;
  LayerCacheStore& cache = s.cache.front();
  const auto row = static_cast<std::size_t>(s.config.kv_dim());
  for (std::size_t done = 0; done < keys.size() / row;) {
    const std::size_t count = std::min<std::size_t>(keys.size() / row - done, chunk_tokens);
    std::copy_n(keys.data() + done * row, count * row, s.work.key.data);
    std::copy_n(values.data() + done * row, count * row, s.work.value.data);
    const AttentionChunk chunk = s.chunk(s.tokens, static_cast<int>(count));
    s.tokens += static_cast<int>(count);
    const auto store = [&](CacheSide& side, Rows<float> rows) {
      side.reserve(s.tokens);
      encode(chunk, side, rows.first(chunk.tokens()), cache.layer);
      side.drop_for(s.tokens);
    };
    store(cache.keys, s.work.key);
    store(cache.values, s.work.value);
    done += count;
  }
}

int CpuLayerAttention::tokens() const {
  return state_->tokens;
}

void CpuLayerAttention::attend(std::span<const float> query, int oldest_key, std::span<float> out) {
  State& s = *state_;
  for (std::size_t i = 0; i < query.size(); ++i) s.work.query.data[i] = query[i] * s.shape.scale;
  cpu::attend(s.chunk(s.tokens - 1, 1), s.cache.front(), oldest_key);
  std::copy_n(s.work.query.data, out.size(), out.data());
}

// A token's vectors change only when another range begins to serve it.
LayerAttention::Seen CpuLayerAttention::seen(int kv_head) {
  State& s = *state_;
  const LayerCacheStore& store = s.cache.front();
  const int newest = s.tokens - 1;
  State::Read& read = s.reads[static_cast<std::size_t>(kv_head)];
  const auto dim = static_cast<std::size_t>(s.shape.head_dim);
  read.keys.resize(static_cast<std::size_t>(s.tokens) * dim);
  read.values.resize(read.keys.size());
  read.ranges.resize(static_cast<std::size_t>(s.tokens));
  for (const cache::KeySpan& span : cache::key_spans(s.format, keys(), values(), newest, newest, 0, s.tokens)) {
    for (int token = span.from; token < span.to; ++token) {
      auto& served_by = read.ranges[static_cast<std::size_t>(token)];
      if (served_by == span.range) continue;
      served_by = span.range;
      const std::size_t at = static_cast<std::size_t>(token) * dim;
      s.read(store.keys, span.range, kv_head, token, read.keys.data() + at);
      s.read(store.values, span.range, kv_head, token, read.values.data() + at);
    }
  }
  return {read.keys, read.values};
}

const SideFormat& CpuLayerAttention::keys() const {
  return state_->cache.front().keys.format();
}

const SideFormat& CpuLayerAttention::values() const {
  return state_->cache.front().values.format();
}

}  // namespace tqkv::cpu
