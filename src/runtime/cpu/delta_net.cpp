// Gated delta net: project, convolve, normalise, gates, the delta rule, gated norm, project.
#include <algorithm>
#include <cmath>

#include "runtime/cpu/layers.h"
#include "runtime/cpu/linear.h"
#include "runtime/cpu/vector_rows.h"

namespace tqkv::cpu {
namespace {

constexpr float l2_eps = 1e-6f;      // as transformers: inside the root, beside the sum of squares
constexpr int chunk_tokens = 64;     // of the chunked delta rule
constexpr int fewest_for_chunk = 8;  // below it, token by token is less work
constexpr int channels_per_task = 256;

float softplus(float x) {
  return x > 20.0f ? x : std::log1p(std::exp(x));
}

// Segments one after the other: the rows before a segment's first become its past when the segment there is done.
void convolve(const Pass& pass, std::size_t index, const LayerVectors& vectors) {
  const int channels = pass.config().conv_dim(), kernel = pass.config().linear_conv_kernel_dim, past = kernel - 1;
  pass.pool().run(ceil_div(channels, channels_per_task), [&](int task, int) {
    const int begin = task * channels_per_task, end = std::min(begin + channels_per_task, channels);
    for (const Segment& segment : pass.batch.segments()) {
      StateArray& state = segment.state->states[index].convolution;
      const Rows<float> in = pass.work.conv_in.sub(segment.first, past + segment.rows());  // the past, then its rows
      const Rows<float> out = pass.work.conv_out.sub(segment.first, segment.rows());
      for (int tap = 0; tap < past; ++tap) state.load(tap, begin, end - begin, &in.at(tap, begin));
      pass.delta().convolve(in.data, in.stride, vectors.conv1d.data(), kernel, segment.rows(), begin, end, out.data,
                            out.stride);
      for (int tap = 0; tap < past; ++tap) {
        state.store(tap, begin, end - begin, &in.at(segment.rows() + tap, begin));
        if (segment.keep) segment.keep->states[index].convolution.copy(state, tap, begin, end - begin);
      }
    }
  });
}

// Of one row: q and k get their lengths, b becomes beta and a log g.
void normalise_and_gate(const Pass& pass, int row, const LayerVectors& vectors) {
  const ModelConfig& config = pass.config();
  const int key_heads = config.linear_num_key_heads, key_dim = config.key_dim();
  const Rows<float> out = pass.work.conv_out.sub(row, 1);
  const Rows<float> q = out.slice(0, key_dim).heads(0, key_heads), k = out.slice(key_dim, key_dim).heads(0, key_heads);
  l2_norm(pass.vector(), q, l2_eps, 1.0f / std::sqrt(static_cast<float>(q.columns)));
  l2_norm(pass.vector(), k, l2_eps, 1.0f);
  float *a = pass.work.a.row(row), *b = pass.work.b.row(row);
  for (std::size_t head = 0; head < vectors.dt_bias.size(); ++head) {
    b[head] = 1.0f / (1.0f + std::exp(-b[head]));
    a[head] = vectors.negative_exp_A[head] * softplus(a[head] + vectors.dt_bias[head]);
  }
}

/// What the recurrence of one value head of one segment reads and writes, a row for each token.
struct HeadRows {
  Rows<const float> q, k, v, log_g, beta;  // [tokens, head dim], of log_g and beta [tokens, 1]
  Rows<float> out;                         // [tokens, value head dim]
};

HeadRows rows_of(const Pass& pass, const Segment& segment, int head) {
  const ModelConfig& config = pass.config();
  const int key_head = config.linear_key_head_dim, value_head = config.linear_value_head_dim;
  const int key = head / (config.linear_num_value_heads / config.linear_num_key_heads);
  const auto own = [&](Rows<float> rows) { return rows.sub(segment.first, segment.rows()); };
  const Rows<float> qkv = own(pass.work.conv_out);
  return {qkv.slice(key * key_head, key_head),
          qkv.slice(config.key_dim() + key * key_head, key_head),
          qkv.slice(2 * config.key_dim() + head * value_head, value_head),
          own(pass.work.a).slice(head, 1),
          own(pass.work.b).slice(head, 1),
          own(pass.work.delta_out).slice(head * value_head, value_head)};
}

void step_by_step(const DeltaKernels& kernels, const HeadRows& x, float* s) {
  for (int t = 0; t < x.out.rows; ++t)
    kernels.step(s, x.q.row(t), x.k.row(t), x.v.row(t), std::exp(x.log_g.at(t, 0)), x.beta.at(t, 0), x.k.columns,
                 x.v.columns, x.out.row(t));
}

void in_chunks(const DeltaKernels& kernels, const HeadRows& x, float* s, float* scratch) {
  float log_g[chunk_tokens], beta[chunk_tokens];
  for (int first = 0; first < x.out.rows; first += chunk_tokens) {
    const int count = std::min(chunk_tokens, x.out.rows - first);
    for (int t = 0; t < count; ++t) {
      log_g[t] = x.log_g.at(first + t, 0);
      beta[t] = x.beta.at(first + t, 0);
    }
    kernels.chunk(s, x.q.row(first), x.k.row(first), x.q.stride, x.v.row(first), x.v.stride, log_g, beta, count,
                  x.k.columns, x.v.columns, x.out.row(first), x.out.stride, scratch);
  }
}

// The recurrence of one value head through a segment.
void delta_rule(const Pass& pass, std::size_t index, const Segment& segment, int head, int worker) {
  const int key_head = pass.config().linear_key_head_dim, value_head = pass.config().linear_value_head_dim;
  StateArray& state = segment.state->states[index].recurrent;
  float* scratch = pass.work.worker(worker).delta;
  float* s = state.f32(head);
  const bool packed = !s;
  if (packed) {  // bf16 between passes: the end of the scratch holds it in f32
    s = scratch + pass.delta().chunk_scratch(key_head, value_head);
    state.load(head, 0, key_head * value_head, s);
  }
  const HeadRows rows = rows_of(pass, segment, head);
  if (segment.rows() < fewest_for_chunk)
    step_by_step(pass.delta(), rows, s);
  else
    in_chunks(pass.delta(), rows, s, scratch);
  if (packed) state.store(head, 0, key_head * value_head, s);
  if (segment.keep) segment.keep->states[index].recurrent.copy(state, head, 0, key_head * value_head);
}

// Of every value head of every session.
void delta_rule(const Pass& pass, std::size_t index) {
  const int heads = pass.config().linear_num_value_heads;
  const auto sequences = pass.batch.sequences();
  pass.pool().run(static_cast<int>(sequences.size()) * heads, [&](int task, int worker) {
    for (const int segment : sequences[static_cast<std::size_t>(task / heads)])
      delta_rule(pass, index, pass.batch.segments()[static_cast<std::size_t>(segment)], task % heads, worker);
  });
}

// delta_out = rms(delta_out, w_norm) * silu(z), head by head
void gated_norm(const Pass& pass, int first, int count, const LayerVectors& vectors) {
  const ModelConfig& config = pass.config();
  const Rows<float> out = pass.work.delta_out.sub(first, count);
  const Rows<float> heads = out.as(count * config.linear_num_value_heads, config.linear_value_head_dim);
  rms_norm(pass.vector(), heads, vectors.norm, config.rms_norm_eps, heads);
  silu_multiply(pass.vector(), pass.work.z.sub(first, count), out, out);
}

}  // namespace

void delta_net(const Pass& pass, std::size_t index, const DeltaWeights& weights, const LayerVectors& vectors) {
  const ModelConfig& config = pass.config();
  Workspace& work = pass.work;
  const int query_key = 2 * config.key_dim(), value_dim = config.value_dim();
  const Rows<float> current = work.conv_in.from(config.linear_conv_kernel_dim - 1);
  const Matrix queries_keys = weights.in_proj_qkv.rows(0, query_key),
               values = weights.in_proj_qkv.rows(query_key, value_dim);
  multiply(pass,
           {{queries_keys, current.slice(0, query_key), Tolerance::tolerant},
            {values, current.slice(query_key, value_dim)},
            {weights.in_proj_z, work.z},
            {.w = weights.in_proj_b, .y = work.b, .exact = true},
            {.w = weights.in_proj_a, .y = work.a, .exact = true}},
           activations(pass, work.normed));
  convolve(pass, index, vectors);
  for_rows(pass, [&](int row) { normalise_and_gate(pass, row, vectors); });
  delta_rule(pass, index);
  for_row_blocks(pass, [&](int first, int count) { gated_norm(pass, first, count, vectors); });
  multiply(pass, {{weights.out_proj, work.mixed}}, activations(pass, work.delta_out));
}

}  // namespace tqkv::cpu
