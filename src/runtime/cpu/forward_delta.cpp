// Gated delta net: project, convolve, normalise, gates, the delta rule, gated norm, project.
#include <algorithm>
#include <cmath>

#include "runtime/cpu/forward.h"

namespace tqkv::cpu {
namespace {

constexpr float l2_eps = 1e-6f;      // as transformers: inside the root, beside the sum of squares
constexpr int chunk_tokens = 64;     // of the chunked delta rule
constexpr int fewest_for_chunk = 8;  // below it, token by token is less work
constexpr int channels_per_task = 256;

float softplus(float x) {
  return x > 20.0f ? x : std::log1p(std::exp(x));
}

}  // namespace

void Forward::delta(std::size_t index, const DeltaWeights& weights, const LayerVectors& vectors) {
  const int conv = config_.conv_dim(), value_dim = config_.value_dim(), value_heads = config_.linear_num_value_heads;
  float* current = row(work_.conv_in, config_.linear_conv_kernel_dim - 1, conv);
  const auto x = linear_.activations(work_.normed, config_.hidden_size);
  const int query_key = 2 * config_.key_dim();
  const Matrix queries_keys = weights.in_proj_qkv.rows(0, query_key),
               values = weights.in_proj_qkv.rows(query_key, value_dim);
  const Product projections[] = {{&queries_keys, current, conv, false, Tolerance::tolerant},
                                 {&values, current + query_key, conv, false},
                                 {&weights.in_proj_z, work_.z, value_dim, false},
                                 {&weights.in_proj_b, work_.b, value_heads, true},
                                 {&weights.in_proj_a, work_.a, value_heads, true}};
  linear_.multiply(projections, x);
  convolve(index, vectors);

  const int key_heads = config_.linear_num_key_heads, key_head = config_.linear_key_head_dim,
            key_dim = config_.key_dim();
  for_rows(tokens_, [&](int first, int count) {
    for (std::ptrdiff_t t = first; t < first + count; ++t) {
      float* q = work_.conv_out + t * conv;
      kernels_.vector.l2_norm(q, key_head, key_heads, key_head, l2_eps, 1.0f / std::sqrt(static_cast<float>(key_head)));
      kernels_.vector.l2_norm(q + key_dim, key_head, key_heads, key_head, l2_eps, 1.0f);
      for (std::ptrdiff_t head = 0; head < value_heads; ++head) {
        float& b = work_.b[t * value_heads + head];
        float& a = work_.a[t * value_heads + head];
        b = 1.0f / (1.0f + std::exp(-b));
        a = vectors.negative_exp_A[static_cast<std::size_t>(head)] *
            softplus(a + vectors.dt_bias[static_cast<std::size_t>(head)]);
      }
    }
  });

  delta_heads(index);

  for_rows(tokens_, [&](int first, int count) {
    const auto at = static_cast<std::ptrdiff_t>(first) * value_dim;
    const int head_dim = config_.linear_value_head_dim;
    kernels_.vector.rms_norm(work_.delta_out + at, head_dim, vectors.norm.data(), count * value_heads, head_dim,
                             config_.rms_norm_eps, work_.delta_out + at, head_dim);
    kernels_.vector.silu_multiply(work_.z + at, work_.delta_out + at, work_.delta_out + at,
                                  static_cast<std::size_t>(count) * static_cast<std::size_t>(value_dim));
  });
  const auto y = linear_.activations(work_.delta_out, value_dim);
  const Product output[] = {{&weights.out_proj, work_.mixed, config_.hidden_size, false}};
  linear_.multiply(output, y);
}

// Segments one after the other: the rows before a segment's first become its past when the segment there is done.
void Forward::convolve(std::size_t index, const LayerVectors& vectors) {
  const int conv = config_.conv_dim(), past = config_.linear_conv_kernel_dim - 1;
  pool_.run(ceil_div(conv, channels_per_task), [&](int task, int) {
    const int begin = task * channels_per_task, end = std::min(begin + channels_per_task, conv);
    const auto channels = static_cast<std::size_t>(end - begin);
    const auto at = [&](int tap) { return static_cast<std::size_t>(tap * conv + begin); };
    for (const Segment& segment : batch_.segments()) {
      StateArray& state = segment.state->states[index].convolution;
      float* in = row(work_.conv_in, segment.first, conv);  // past rows, then the segment's
      for (int tap = 0; tap < past; ++tap) state.load(at(tap), channels, in + at(tap));
      kernels_.delta.convolve(in, conv, vectors.conv1d.data(), past + 1, segment.rows(), begin, end,
                              row(work_.conv_out, segment.first, conv), conv);
      for (int tap = 0; tap < past; ++tap) state.store(at(tap), channels, row(in, segment.rows(), conv) + at(tap));
    }
  });
}

// The recurrence of every value head of every segment; work_.a holds log g, work_.b beta.
void Forward::delta_heads(std::size_t index) {
  const int conv = config_.conv_dim(), value_dim = config_.value_dim(), value_heads = config_.linear_num_value_heads;
  const int key_head = config_.linear_key_head_dim, value_head = config_.linear_value_head_dim,
            key_dim = config_.key_dim();
  const int heads_per_key = value_heads / config_.linear_num_key_heads;
  const auto state_size = static_cast<std::size_t>(key_head) * static_cast<std::size_t>(value_head);
  const auto segments = batch_.segments();
  pool_.run(static_cast<int>(segments.size()) * value_heads, [&](int task, int worker) {
    const Segment& segment = segments[static_cast<std::size_t>(task / value_heads)];
    const int head = task % value_heads, tokens = segment.rows();
    StateArray& recurrent = segment.state->states[index].recurrent;
    const std::size_t at = static_cast<std::size_t>(head) * state_size;
    float* s = recurrent.f32(at);
    float* scratch = work_.workers[static_cast<std::size_t>(worker)].delta;
    if (!s) {  // bf16 between passes: the last state_size floats of the scratch hold it in f32
      s = scratch + kernels_.delta.chunk_scratch(key_head, value_head);
      recurrent.load(at, state_size, s);
    }
    const float* q = row(work_.conv_out, segment.first, conv) + head / heads_per_key * key_head;
    const float* k = q + key_dim;
    const float* v = row(work_.conv_out, segment.first, conv) + 2 * key_dim + head * value_head;
    const float *log_gate = row(work_.a, segment.first, value_heads) + head,
                *step_size = row(work_.b, segment.first, value_heads) + head;
    float* out = row(work_.delta_out, segment.first, value_dim) + head * value_head;
    if (tokens < fewest_for_chunk) {
      for (std::ptrdiff_t t = 0; t < tokens; ++t)
        kernels_.delta.step(s, q + t * conv, k + t * conv, v + t * conv, std::exp(log_gate[t * value_heads]),
                            step_size[t * value_heads], key_head, value_head, out + t * value_dim);
    } else {
      float log_g[chunk_tokens], beta[chunk_tokens];
      for (std::ptrdiff_t first = 0; first < tokens; first += chunk_tokens) {
        const int count = std::min(chunk_tokens, tokens - static_cast<int>(first));
        for (std::ptrdiff_t t = 0; t < count; ++t) {
          log_g[t] = log_gate[(first + t) * value_heads];
          beta[t] = step_size[(first + t) * value_heads];
        }
        kernels_.delta.chunk(s, q + first * conv, k + first * conv, conv, v + first * conv, conv, log_g, beta, count,
                             key_head, value_head, out + first * value_dim, value_dim, scratch);
      }
    }
    if (!recurrent.f32(at)) recurrent.store(at, state_size, s);
  });
}

}  // namespace tqkv::cpu
