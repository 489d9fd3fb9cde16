#include "runtime/mlx/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cache/accounting.h"
#include "cache/session/layout.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

/// Of those that attention layers, or linear ones, have in order: the one of layer `layer` of the model.
template <class Values>
auto& of_layer(Values& values, const ModelConfig& config, int layer) {
  const LayerKind kind = config.layers[static_cast<std::size_t>(layer)];
  const auto first = config.layers.begin();
  return values[static_cast<std::size_t>(std::count(first, first + layer, kind))];
}

/// Of the shape and type of `like`.
mx::array of_bytes(std::span<const std::byte> bytes, const mx::array& like) {
  mx::array made(mx::allocator::malloc(bytes.size()), like.shape(), like.dtype());
  std::memcpy(made.data<std::byte>(), bytes.data(), bytes.size());
  return made;
}

std::span<const std::byte> bytes_of(const mx::array& computed) {
  return {computed.data<std::byte>(), computed.nbytes()};
}

/// Of a layer with these sides, whose windows and sinks are read by the same kernel.
LayerKernels kernels_of(Paths& paths, const ModelConfig& config, const KvFormat& format, const SideFormat& k,
                        const SideFormat& v) {
  const auto choose = [&](const SideFormat& keys, const SideFormat& values) {
    return paths.choose({keys, values, config.num_attention_heads, config.num_key_value_heads, config.head_dim});
  };
  LayerKernels kernels = choose(k, v);
  const auto keys = cache::stored_ranges(format, k, 0), values = cache::stored_ranges(format, v, 0);
  for (const cache::Range range : {cache::Range::sink, cache::Range::window}) {
    const auto in = [&](const std::vector<cache::StoredRange>& ranges, const SideFormat& main) {
      const auto found =
          std::find_if(ranges.begin(), ranges.end(), [&](const cache::StoredRange& own) { return own.range == range; });
      return found == ranges.end() ? main : found->vectors;
    };
    const SideFormat own_k = in(keys, k), own_v = in(values, v);
    if (own_k == k && own_v == v) continue;
    const bool works = choose(own_k, own_v).attend != nullptr;
    if (!works && has_kernel(own_k, own_v, config.num_attention_heads, config.num_key_value_heads, config.head_dim))
      kernels.attend = nullptr;  // it failed for one of its ranges
  }
  return kernels;
}

}  // namespace

MlxState::MlxState(MlxThread& a_thread, Paths& a_paths, const ModelConfig& a_config, const KvFormat& format,
                   StateType type, Precision a_precision)
    : thread(a_thread), paths(a_paths), config(a_config), stored(format), precision(a_precision) {
  check_stored(config, stored);
  if (type != StateType::f32)
    throw Error(ErrorKind::format,
                "the device mlx keeps the recurrent state in f32, and bf16 was asked for: use --device cpu");
  thread.run([&] {
    for (int layer = 0; layer < config.num_layers(); ++layer) {
      if (config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
        const auto sides = stored.sides(layer, static_cast<int>(caches.size()), config.attention_layers());
        const int heads = config.num_key_value_heads, dim = config.head_dim;
        LayerKernels kernels = kernels_of(paths, config, stored, sides.k, sides.v);
        caches.push_back({layer, CacheSide(stored, sides.k, layer, heads, dim, true, std::move(kernels.encode_keys)),
                          CacheSide(stored, sides.v, layer, heads, dim, false, std::move(kernels.encode_values)),
                          std::move(kernels.attend)});
      } else {
        states.push_back(
            {mx::zeros({config.linear_num_value_heads, config.linear_value_head_dim, config.linear_key_head_dim}),
             mx::zeros({config.linear_conv_kernel_dim - 1, config.conv_dim()},
                       cache::convolution_bits(precision) == 16 ? mx::bfloat16 : mx::float32)});
      }
    }
  });
}

MlxState::~MlxState() {
  thread.run([&] {
    caches.clear();
    states.clear();
  });
}

std::uint64_t MlxSnapshot::bytes() const {
  std::uint64_t sum = 0;
  for (const LinearState& state : states) sum += state.recurrent.nbytes() + state.convolution.nbytes();
  for (const Sides& layer : sides) sum += layer.keys.bytes() + layer.values.bytes();
  return sum;
}

void MlxState::reserve(int) {}  // a step makes what it writes

std::uint64_t MlxState::kv_bytes(int tokens) const {
  return cache::cache_bytes(config, stored, tokens, StateType::f32, precision, cache::Allocation::segments)
      .kv_allocated;
}

std::unique_ptr<DeviceSnapshot> MlxState::snapshot() const {
  auto snapshot = std::make_unique<MlxSnapshot>();
  snapshot->states = states;
  for (const AttentionCache& cache : caches)
    snapshot->sides.push_back({cache.keys.snapshot(), cache.values.snapshot()});
  return snapshot;
}

void MlxState::restore(const DeviceSnapshot& snapshot, int position) {
  thread.run([&] {
    const auto& own = dynamic_cast<const MlxSnapshot&>(snapshot);
    states = own.states;
    for (std::size_t i = 0; i < caches.size(); ++i) {
      caches[i].keys.restore(own.sides[i].keys, position);
      caches[i].values.restore(own.sides[i].values, position);
    }
  });
}

MlxState::Mark MlxState::mark() const {
  Mark mark{states, {}};
  for (const AttentionCache& cache : caches) mark.sides.emplace_back(cache.keys.mark(), cache.values.mark());
  return mark;
}

void MlxState::go_back(const Mark& mark) {
  states = mark.states;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    caches[i].keys.go_back(mark.sides[i].first);
    caches[i].values.go_back(mark.sides[i].second);
  }
}

std::unique_ptr<DeviceState> MlxState::fork(const DeviceSnapshot& snapshot, int position) const {
  auto forked = std::make_unique<MlxState>(thread, paths, config, stored, StateType::f32, precision);
  forked->caches = caches;  // arrays never change: both share them
  forked->restore(snapshot, position);
  return forked;
}

CacheReport MlxState::report(int tokens) const {
  CacheReport report;
  report.format = stored;
  report.state = StateType::f32;
  report.tokens = tokens;
  for (const AttentionCache& cache : caches) {
    const auto sides = stored.sides(cache.layer, static_cast<int>(report.layers.size()), config.attention_layers());
    report.layers.push_back({cache.layer, sides.k, sides.v});
    report.bytes.kv_allocated += cache.keys.bytes() + cache.values.bytes();
  }
  report.bytes.kv_used = cache::cache_bytes(config, stored, tokens, StateType::f32, precision).kv_used;
  for (const LinearState& state : states) {
    report.bytes.recurrent += state.recurrent.nbytes();
    report.bytes.convolution += state.convolution.nbytes();
  }
  return report;
}

void MlxState::save(const cache::SessionTensor& tensor,
                    const std::function<void(std::span<const std::byte>)>& sink) const {
  thread.run([&] {
    if (tensor.part == cache::SessionPart::recurrent || tensor.part == cache::SessionPart::convolution) {
      const LinearState& state = of_layer(states, config, tensor.layer);
      mx::array whole =
          mx::contiguous(tensor.part == cache::SessionPart::recurrent ? state.recurrent : state.convolution);
      whole.eval();
      return sink(bytes_of(whole));
    }
    const AttentionCache& cache = of_layer(caches, config, tensor.layer);
    const CacheSide& side = tensor.keys ? cache.keys : cache.values;
    if (tensor.part == cache::SessionPart::mean) {
      mx::array sum = mx::contiguous(*side.key_sum);
      sum.eval();
      return sink(bytes_of(sum));
    }
    const RangeStore& store = side.store_of(tensor.part);
    for (const Run& run : store.runs(tensor.first_token, tensor.first_token + tensor.tokens))
      for (int from = run.from; from < run.to; from += cache::page_tokens)
        sink(bytes_of(
            store.codec().to_bytes(tokens_of(*run.arrays, from, std::min(run.to, from + cache::page_tokens)))));
  });
}

void MlxState::load(const cache::SessionTensor& tensor, int, int first, int count, std::span<const std::byte> bytes) {
  thread.run([&] {
    if (tensor.part == cache::SessionPart::recurrent || tensor.part == cache::SessionPart::convolution) {
      LinearState& state = of_layer(states, config, tensor.layer);
      mx::array& to = tensor.part == cache::SessionPart::recurrent ? state.recurrent : state.convolution;
      to = of_bytes(bytes, to);
      return;
    }
    AttentionCache& cache = of_layer(caches, config, tensor.layer);
    CacheSide& side = tensor.keys ? cache.keys : cache.values;
    if (tensor.part == cache::SessionPart::mean) {
      side.key_sum = of_bytes(bytes, *side.key_sum);
      return;
    }
    RangeStore& store = side.store_of(tensor.part);
    if (first == tensor.first_token) store.start_at(first);
    const mx::array raw(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                        {count, config.num_key_value_heads, static_cast<int>(store.codec().vector_bytes())}, mx::uint8);
    store.append(store.codec().from_bytes(raw));
    std::vector<mx::array> all;
    store.add_arrays(all);
    mx::eval(all);
  });
}

}  // namespace tqkv::mlx
