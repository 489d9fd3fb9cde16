// Gated full attention: project, normalise, RoPE, rotate and encode, attend over packed pages, gate, project.
#include <chrono>
#include <cmath>

#include "runtime/cpu/attention.h"
#include "runtime/cpu/layers.h"
#include "runtime/cpu/linear.h"
#include "runtime/cpu/vector_rows.h"

namespace tqkv::cpu {
namespace {

// Queries and keys of a row: norm and RoPE. Queries are scaled here once instead of at every score.
void normalise_and_turn(const Pass& pass, int row, const LayerVectors& vectors) {
  const ModelConfig& config = pass.config();
  const VectorKernels& kernels = pass.vector();
  const int heads = config.num_attention_heads, dim = config.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim)), eps = config.rms_norm_eps;
  const float *cosine = pass.work.cosine.row(row), *sine = pass.work.sine.row(row);
  const Rows<float> query = pass.work.query.heads(row, heads),
                    key = pass.work.key.heads(row, config.num_key_value_heads);
  rms_norm(kernels, pass.work.query_gate.heads(row, heads).slice(0, dim), vectors.q_norm, eps, query);
  rms_norm(kernels, key, vectors.k_norm, eps, key);
  rope(kernels, query, config.rotary_dim, cosine, sine);
  rope(kernels, key, config.rotary_dim, cosine, sine);
  for (float& channel : query.span()) channel *= scale;
}

// A segment's keys and values into its pages; its queries become what they see.
void attend_segment(const Pass& pass, std::size_t index, const Segment& segment) {
  CpuState& state = *segment.state;
  LayerCacheStore& cache = state.caches[index];
  const auto own = [&](Rows<float> rows) { return rows.sub(segment.first, segment.rows()); };
  const Rows<float> key = own(pass.work.key), value = own(pass.work.value);
  if (segment.observer) segment.observer->keys_values(cache.layer, key.span(), value.span(), segment.rows());
  const AttentionChunk chunk{pass.config(), state.stored, pass.engine.precision(), pass.engine.kernels(),
                             pass.pool(),   pass.work,    segment.position,        own(pass.work.query)};
  const auto start = std::chrono::steady_clock::now();
  encode(chunk, cache.keys, key, cache.layer);
  encode(chunk, cache.values, value, cache.layer);
  state.encode_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  attend(chunk, cache);
  cache.keys.drop_for(segment.position + segment.rows());
  cache.values.drop_for(segment.position + segment.rows());
  if (segment.keep) segment.keep->sides[index] = {snapshot_of(cache.keys), snapshot_of(cache.values)};
}

// query *= sigmoid(gate)
void gate(const Pass& pass, int row) {
  const int heads = pass.config().num_attention_heads, dim = pass.config().head_dim;
  const Rows<float> out = pass.work.query.heads(row, heads),
                    gates = pass.work.query_gate.heads(row, heads).slice(dim, dim);
  for (int head = 0; head < heads; ++head)
    pass.vector().sigmoid_multiply(out.row(head), gates.row(head), out.sub(head, 1).size());
}

}  // namespace

void full_attention(const Pass& pass, std::size_t index, const AttentionWeights& weights, const LayerVectors& vectors) {
  Workspace& work = pass.work;
  multiply(pass,
           {{weights.q_proj, work.query_gate, Tolerance::tolerant},
            {weights.k_proj, work.key},
            {weights.v_proj, work.value}},
           activations(pass, work.normed));
  for_rows(pass, [&](int row) { normalise_and_turn(pass, row, vectors); });
  for (const Segment& segment : pass.batch.segments()) attend_segment(pass, index, segment);
  for_rows(pass, [&](int row) { gate(pass, row); });
  multiply(pass, {{weights.o_proj, work.mixed, Tolerance::tolerant}}, activations(pass, work.query));
}

}  // namespace tqkv::cpu
