#include "runtime/mlx/forward.h"

#include <algorithm>

namespace tqkv::mlx {
namespace {

// From so many rows on a pass is computed half a layer at a time: no piece of work takes long, and no two layers'
// arrays live at the same time.
constexpr int rows_to_wait = 32;

bool observed(const Pass& pass) {
  return std::any_of(pass.segments.begin(), pass.segments.end(),
                     [](const Segment& segment) { return segment.observer != nullptr; });
}

void observe(const Pass& pass, int layer, const mx::array& values) {
  for (const Segment& segment : pass.segments) {
    if (!segment.observer) continue;
    mx::array rows = mx::contiguous(mx::astype(segment.of(values), mx::float32));
    rows.eval();
    segment.observer->hidden(layer, {rows.data<float>(), rows.size()}, segment.count);
  }
}

// Of many rows: computed now, so that the pass can be left here.
void wait_for(const Pass& pass, mx::array& hidden) {
  if (hidden.shape(0) < rows_to_wait) return;
  hidden.eval();
  if (pass.stop && pass.stop->load()) throw Stopped();
}

}  // namespace

mx::array Segment::of(const mx::array& rows) const {
  mx::Shape start(rows.ndim(), 0), stop = rows.shape();
  start[0] = first;
  stop[0] = first + count;
  return mx::slice(rows, start, stop);
}

mx::array rms_norm(const ModelConfig& config, const mx::array& x, const mx::array& weight) {
  return mx::fast::rms_norm(x, weight, config.rms_norm_eps);
}

mx::array silu(const mx::array& x) {
  return mx::multiply(x, mx::sigmoid(x));
}

mx::array forward(const Pass& pass, const mx::array& ids) {
  const Arrays& arrays = pass.engine.arrays();
  mx::array hidden = arrays.embed_tokens.rows(ids);
  if (observed(pass)) observe(pass, 0, hidden);
  const auto add = [&](const mx::array& more) { hidden = mx::add(hidden, mx::astype(more, arrays.type)); };
  std::size_t attention_layer = 0, linear_layer = 0;
  for (std::size_t i = 0; i < arrays.layers.size(); ++i) {
    const LayerArrays& layer = arrays.layers[i];
    mx::array normed = rms_norm(pass.config, hidden, layer.input_layernorm);
    add(layer.attention ? full_attention(pass, attention_layer++, *layer.attention, normed)
                        : delta_net(pass, linear_layer++, *layer.delta, normed));
    wait_for(pass, hidden);
    normed = rms_norm(pass.config, hidden, layer.post_attention_layernorm);
    add(layer.experts ? experts(pass.config, *layer.experts, normed) : mlp(*layer.mlp, normed));
    wait_for(pass, hidden);
    if (observed(pass) && i + 1 < arrays.layers.size()) observe(pass, static_cast<int>(i) + 1, hidden);
  }
  if (observed(pass)) observe(pass, static_cast<int>(arrays.layers.size()), rms_norm(pass.config, hidden, arrays.norm));
  return hidden;
}

}  // namespace tqkv::mlx
