#include "cache/session/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cache/accounting.h"
#include "codec/side_codec.h"

namespace tqkv::cache {
namespace {

std::pair<SessionPart, const char*> part_of(Range range) {
  switch (range) {
    case Range::first:
      return {SessionPart::first, "first"};
    case Range::sink:
      return {SessionPart::sink, "sink"};
    case Range::window:
      return {SessionPart::window, "window"};
    case Range::main:
      break;
  }
  return {SessionPart::main, "main"};
}

class Layout {
 public:
  Layout(const ModelConfig& config, const SessionSize& size) : config_(config), size_(size) {}

  std::vector<SessionTensor> take() {
    add(SessionPart::checksums, "checksums", DType::u64, {0});
    add(SessionPart::tokens, "tokens", DType::i32, {size_.tokens});
    add(SessionPart::pending, "pending", DType::i32, {size_.pending});
    add(SessionPart::logits, "logits", DType::f32, {size_.logits ? config_.vocab_size : 0});
    int attention_layer = 0;
    for (int layer = 0; layer < config_.num_layers(); ++layer) {
      if (config_.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention) {
        const auto sides = size_.format.sides(layer, attention_layer++, config_.attention_layers());
        add_side(layer, true, sides.k);
        add_side(layer, false, sides.v);
      } else {
        add_state(layer);
      }
    }
    std::stable_sort(tensors_.begin(), tensors_.end(), [](const SessionTensor& a, const SessionTensor& b) {
      return size_of(a.shape.dtype) > size_of(b.shape.dtype);
    });
    tensors_.front().shape.shape = {static_cast<std::int64_t>(tensors_.size())};
    std::size_t offset = 0;
    for (SessionTensor& tensor : tensors_) {
      tensor.offset = offset;
      tensor.bytes = size_of(tensor.shape.dtype);
      for (const std::int64_t extent : tensor.shape.shape) tensor.bytes *= static_cast<std::size_t>(extent);
      offset += tensor.bytes;
    }
    return std::move(tensors_);
  }

 private:
  SessionTensor& add(SessionPart part, std::string name, DType dtype, std::vector<std::int64_t> shape) {
    SessionTensor& tensor = tensors_.emplace_back();
    tensor.part = part;
    tensor.shape = {std::move(name), dtype, std::move(shape)};
    return tensor;
  }

  void add_state(int layer) {
    add(SessionPart::recurrent, fmt::format("layers.{}.recurrent", layer),
        size_.state == StateType::f32 ? DType::f32 : DType::bf16,
        {config_.linear_num_value_heads, config_.linear_value_head_dim, config_.linear_key_head_dim})
        .layer = layer;
    add(SessionPart::convolution, fmt::format("layers.{}.convolution", layer),
        convolution_bits(size_.precision) == 32 ? DType::f32 : DType::bf16,
        {config_.linear_conv_kernel_dim - 1, config_.conv_dim()})
        .layer = layer;
  }

  void add_side(int layer, bool keys, const SideFormat& side) {
    for (const StoredRange& range : stored_ranges(size_.format, side, size_.tokens)) add_pages(layer, keys, range);
    if (side.kind == SideFormat::Kind::split) add_floats(SessionPart::squares, "squares", DType::f64, layer, keys);
    if (side.kind != SideFormat::Kind::plain && keys && size_.format.mean > 0)
      add_floats(SessionPart::mean, "mean", DType::f32, layer, keys);
  }

  // [kv heads, head_dim] of a side.
  void add_floats(SessionPart part, const char* what, DType dtype, int layer, bool keys) {
    SessionTensor& tensor =
        add(part, side_name(layer, keys, what), dtype, {config_.num_key_value_heads, config_.head_dim});
    tensor.layer = layer;
    tensor.keys = keys;
  }

  void add_pages(int layer, bool keys, const StoredRange& range) {
    const auto [part, what] = part_of(range.range);
    const SideFormat& vectors = range.vectors;
    const bool plain = vectors.kind == SideFormat::Kind::plain;
    const auto bytes = static_cast<std::int64_t>(codec::side_codec(vectors, config_.head_dim).vector_bytes());
    SessionTensor& tensor =
        add(part, side_name(layer, keys, what), !plain ? DType::u8 : (vectors.bits == 32 ? DType::f32 : DType::bf16),
            {range.tokens(), config_.num_key_value_heads, plain ? config_.head_dim : bytes});
    tensor.layer = layer;
    tensor.keys = keys;
    tensor.vectors = vectors;
    tensor.first_token = range.begin;
    tensor.tokens = range.tokens();
  }

  static std::string side_name(int layer, bool keys, const char* what) {
    return fmt::format("layers.{}.{}.{}", layer, keys ? "k" : "v", what);
  }

  const ModelConfig& config_;
  const SessionSize& size_;
  std::vector<SessionTensor> tensors_;
};

}  // namespace

std::uint64_t session_bytes(const std::vector<SessionTensor>& layout) {
  return layout.empty() ? 0 : layout.back().offset + layout.back().bytes;
}

std::vector<SessionTensor> session_layout(const ModelConfig& config, const SessionSize& size) {
  return Layout(config, size).take();
}

}  // namespace tqkv::cache
