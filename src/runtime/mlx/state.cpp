#include "runtime/mlx/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cache/accounting.h"
#include "cache/session/layout.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

constexpr int block_tokens = cache::page_tokens;

struct MlxSnapshot final : DeviceSnapshot {
  std::vector<LinearState> states;
  std::uint64_t bytes() const override {
    std::uint64_t sum = 0;
    for (const LinearState& state : states) sum += state.recurrent.nbytes() + state.convolution.nbytes();
    return sum;
  }
};

/// Of those that attention layers, or linear ones, have in order: the one of layer `layer` of the model.
template <class Values>
auto& of_layer(Values& values, const ModelConfig& config, int layer) {
  const LayerKind kind = config.layers[static_cast<std::size_t>(layer)];
  const auto first = config.layers.begin();
  return values[static_cast<std::size_t>(std::count(first, first + layer, kind))];
}

mx::array of_bytes(std::span<const std::byte> bytes, mx::Shape shape) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return mx::array(values.begin(), std::move(shape), mx::float32);
}

std::span<const std::byte> bytes_of(const mx::array& computed) {
  return {computed.data<std::byte>(), computed.nbytes()};
}

}  // namespace

void PlainSide::append(const mx::array& rows) {
  mx::array more = mx::transpose(rows, {1, 0, 2});
  int count = more.shape(1);
  tokens_ += count;
  // The last block takes what it has room for; what is left makes blocks of its own.
  if (!blocks_.empty() && blocks_.back().shape(1) < block_tokens) {
    const int room = std::min(block_tokens - blocks_.back().shape(1), count);
    blocks_.back() = mx::concatenate({blocks_.back(), mx::slice(more, {0, 0, 0}, {heads_, room, dim_})}, 1);
    more = mx::slice(more, {0, room, 0}, {heads_, count, dim_});
    count -= room;
  }
  const int full = count - count % block_tokens;
  if (full > 0) blocks_.push_back(mx::contiguous(mx::slice(more, {0, 0, 0}, {heads_, full, dim_})));
  if (count > full) blocks_.push_back(mx::contiguous(mx::slice(more, {0, full, 0}, {heads_, count, dim_})));
}

void PlainSide::truncate(int tokens) {
  while (tokens_ > tokens) {
    const int last = blocks_.back().shape(1), kept = last - std::min(last, tokens_ - tokens);
    tokens_ -= last - kept;
    if (kept == 0)
      blocks_.pop_back();
    else
      blocks_.back() = mx::contiguous(mx::slice(blocks_.back(), {0, 0, 0}, {heads_, kept, dim_}));
  }
}

std::uint64_t PlainSide::bytes() const {
  return static_cast<std::uint64_t>(tokens_) * static_cast<std::uint64_t>(heads_) * static_cast<std::uint64_t>(dim_) *
         4;
}

MlxState::MlxState(MlxThread& a_thread, const ModelConfig& a_config, const KvFormat& format, StateType type)
    : thread(a_thread), config(a_config), stored(format) {
  if (stored.backend != Backend::baseline)
    throw Error(ErrorKind::format,
                fmt::format("{}: the device mlx stores baseline alone so far: use --device cpu", stored.canonical()));
  if (type != StateType::f32)
    throw Error(ErrorKind::format, "the device mlx keeps the recurrent state in f32: leave out --state");
  thread.run([&] {
    for (int layer = 0; layer < config.num_layers(); ++layer) {
      if (config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
        const PlainSide side(config.num_key_value_heads, config.head_dim);
        caches.push_back({layer, side, side});
      } else {
        states.push_back(
            {mx::zeros({config.linear_num_value_heads, config.linear_value_head_dim, config.linear_key_head_dim}),
             mx::zeros({config.linear_conv_kernel_dim - 1, config.conv_dim()})});
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

void MlxState::reserve(int) {}  // a step makes what it writes

std::uint64_t MlxState::kv_bytes(int tokens) const {
  return cache::cache_bytes(config, stored, tokens, StateType::f32, Precision::f32).kv_used;
}

std::unique_ptr<DeviceSnapshot> MlxState::snapshot() const {
  auto snapshot = std::make_unique<MlxSnapshot>();
  snapshot->states = states;
  return snapshot;
}

void MlxState::restore(const DeviceSnapshot& snapshot, int position) {
  thread.run([&] {
    states = dynamic_cast<const MlxSnapshot&>(snapshot).states;
    for (AttentionCache& cache : caches) {
      cache.keys.truncate(position);
      cache.values.truncate(position);
    }
  });
}

std::unique_ptr<DeviceState> MlxState::fork(const DeviceSnapshot& snapshot, int position) const {
  auto forked = std::make_unique<MlxState>(thread, config, stored, StateType::f32);
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
    report.bytes.kv_used += cache.keys.bytes() + cache.values.bytes();
  }
  report.bytes.kv_allocated = report.bytes.kv_used;
  for (const LinearState& state : states) {
    report.bytes.recurrent += state.recurrent.nbytes();
    report.bytes.convolution += state.convolution.nbytes();
  }
  return report;
}

void MlxState::save(const cache::SessionTensor& tensor,
                    const std::function<void(std::span<const std::byte>)>& sink) const {
  thread.run([&] {
    if (!tensor.paged()) {
      const LinearState& state = of_layer(states, config, tensor.layer);
      mx::array whole =
          mx::contiguous(tensor.part == cache::SessionPart::recurrent ? state.recurrent : state.convolution);
      whole.eval();
      return sink(bytes_of(whole));
    }
    const AttentionCache& cache = of_layer(caches, config, tensor.layer);
    for (const mx::array& block : (tensor.keys ? cache.keys : cache.values).blocks()) {
      mx::array rows = mx::contiguous(mx::transpose(block, {1, 0, 2}));
      rows.eval();
      sink(bytes_of(rows));
    }
  });
}

void MlxState::load(const cache::SessionTensor& tensor, int, int, int count, std::span<const std::byte> bytes) {
  thread.run([&] {
    if (!tensor.paged()) {
      LinearState& state = of_layer(states, config, tensor.layer);
      mx::array& to = tensor.part == cache::SessionPart::recurrent ? state.recurrent : state.convolution;
      to = of_bytes(bytes, to.shape());
      return;
    }
    AttentionCache& cache = of_layer(caches, config, tensor.layer);
    PlainSide& side = tensor.keys ? cache.keys : cache.values;
    side.append(of_bytes(bytes, {count, config.num_key_value_heads, config.head_dim}));
    mx::eval(side.blocks());
  });
}

}  // namespace tqkv::mlx
