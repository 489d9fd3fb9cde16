#include "cache/session/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "cache/accounting.h"
#include "codec/side_codec.h"

namespace tqkv::cache {
namespace {

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
    const bool f32 = size_.precision == Precision::f32;
    add(SessionPart::recurrent, fmt::format("layers.{}.recurrent", layer),
        size_.state == StateType::f32 ? DType::f32 : DType::bf16,
        {config_.linear_num_value_heads, config_.linear_value_head_dim, config_.linear_key_head_dim})
        .layer = layer;
    add(SessionPart::convolution, fmt::format("layers.{}.convolution", layer), f32 ? DType::f32 : DType::bf16,
        {config_.linear_conv_kernel_dim - 1, config_.conv_dim()})
        .layer = layer;
  }

  void add_side(int layer, bool keys, const SideFormat& side) {
    const int tokens = size_.tokens;
    const bool split = side.kind == SideFormat::Kind::split;
    const int early = split ? std::min(tokens, page_tokens) : 0;
    add_pages(SessionPart::main, "main", layer, keys, side, early, tokens);
    if (split) {
      add_pages(SessionPart::first, "first", layer, keys, format_before_split(side), 0, early);
      SessionTensor& squares = add(SessionPart::squares, side_name(layer, keys, "squares"), DType::f64,
                                   {config_.num_key_value_heads, config_.head_dim});
      squares.layer = layer;
      squares.keys = keys;
    }
    if (side.kind == SideFormat::Kind::plain) return;
    if (keys && size_.format.mean > 0) {
      SessionTensor& mean = add(SessionPart::mean, side_name(layer, keys, "mean"), DType::f32,
                                {config_.num_key_value_heads, config_.head_dim});
      mean.layer = layer;
      mean.keys = keys;
    }
    const int sink = std::min(tokens, size_.format.sink), window = std::min(tokens, size_.format.window);
    if (size_.format.sink > 0) add_pages(SessionPart::sink, "sink", layer, keys, SideFormat{}, 0, sink);
    if (size_.format.window > 0)
      add_pages(SessionPart::window, "window", layer, keys, SideFormat{}, tokens - window, tokens);
  }

  void add_pages(SessionPart part, const char* what, int layer, bool keys, const SideFormat& vectors, int begin,
                 int end) {
    const bool plain = vectors.kind == SideFormat::Kind::plain;
    const auto bytes = static_cast<std::int64_t>(codec::side_codec(vectors, config_.head_dim).vector_bytes());
    SessionTensor& tensor =
        add(part, side_name(layer, keys, what), !plain ? DType::u8 : (vectors.bits == 32 ? DType::f32 : DType::bf16),
            {end - begin, config_.num_key_value_heads, plain ? config_.head_dim : bytes});
    tensor.layer = layer;
    tensor.keys = keys;
    tensor.vectors = vectors;
    tensor.first_token = begin;
    tensor.tokens = end - begin;
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
