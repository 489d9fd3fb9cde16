#include "runtime/cpu/forward.h"

#include <algorithm>

#include "runtime/cpu/layers.h"
#include "runtime/cpu/vector_rows.h"

namespace tqkv::cpu {
namespace {

// hidden = E[token]
void embed(const Pass& pass) {
  const Matrix& embedding = pass.engine.weights().embed_tokens;
  for (const Segment& segment : pass.batch.segments()) pass.engine.weight_check().embedding_rows(segment.ids);
  for_rows(pass,
           [&](int row) { pass.matrix().dequantize_row(embedding, pass.batch.id_of(row), pass.work.hidden.row(row)); });
}

// Cosines and sines of every row's position.
void rope_angles(const Pass& pass) {
  for_rows(pass, [&](int row) {
    pass.engine.rotary().at(pass.batch.position_of(row), pass.work.cosine.row(row), pass.work.sine.row(row));
  });
}

// normed = rms(hidden, weight)
void norm_hidden(const Pass& pass, std::span<const float> weight) {
  for_row_blocks(pass, [&](int first, int count) {
    rms_norm(pass.vector(), pass.work.hidden.sub(first, count), weight, pass.config().rms_norm_eps,
             pass.work.normed.sub(first, count));
  });
}

// hidden += mixed
void add_mixed(const Pass& pass) {
  for_row_blocks(pass, [&](int first, int count) {
    add(pass.vector(), pass.work.hidden.sub(first, count), pass.work.mixed.sub(first, count));
  });
}

bool observed(const Batch& batch) {
  return std::any_of(batch.segments().begin(), batch.segments().end(),
                     [](const Segment& segment) { return segment.observer != nullptr; });
}

void observe(const Pass& pass, int layer, Rows<const float> values) {
  for (const Segment& segment : pass.batch.segments())
    if (segment.observer)
      segment.observer->hidden(layer, values.sub(segment.first, segment.rows()).span(), segment.rows());
}

}  // namespace

void forward(const Pass& pass) {
  const int layers = pass.config().num_layers();
  std::size_t attention_layer = 0, linear_layer = 0;
  embed(pass);
  rope_angles(pass);
  observe(pass, 0, pass.work.hidden);
  for (int i = 0; i < layers; ++i) {
    const LayerWeights& layer = pass.engine.weights().layers[static_cast<std::size_t>(i)];
    const LayerVectors& vectors = pass.engine.vectors(i);
    pass.engine.weight_check().layer(i);

    norm_hidden(pass, vectors.input_layernorm);
    if (layer.kind == LayerKind::full_attention)
      full_attention(pass, attention_layer++, layer.attention, vectors);
    else
      delta_net(pass, linear_layer++, layer.delta, vectors);
    add_mixed(pass);

    norm_hidden(pass, vectors.post_attention_layernorm);
    if (pass.config().moe())
      experts(pass, i, layer);
    else
      mlp(pass, layer.mlp);
    add_mixed(pass);

    if (i + 1 < layers) observe(pass, i + 1, pass.work.hidden);
  }
  if (!observed(pass.batch)) return;
  norm_hidden(pass, pass.engine.final_norm());
  observe(pass, layers, pass.work.normed);
}

}  // namespace tqkv::cpu
