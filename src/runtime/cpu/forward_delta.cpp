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

void Forward::delta(LayerState& state, const DeltaWeights& weights, const LayerVectors& vectors) {
  const int conv = config_.conv_dim(), value_dim = config_.value_dim(), value_heads = config_.linear_num_value_heads;
  const int past = config_.linear_conv_kernel_dim - 1;
  float* current = work_.conv_in + static_cast<std::ptrdiff_t>(past) * conv;
  const auto x = linear_.activations(work_.normed, tokens_, config_.hidden_size);
  const int query_key = 2 * config_.key_dim();
  const Matrix queries_keys = weights.in_proj_qkv.rows(0, query_key),
               values = weights.in_proj_qkv.rows(query_key, value_dim);
  const Product projections[] = {{&queries_keys, current, conv, false, planes_of(session_.activations_.tolerant)},
                                 {&values, current + query_key, conv, false},
                                 {&weights.in_proj_z, work_.z, value_dim, false},
                                 {&weights.in_proj_b, work_.b, value_heads, true},
                                 {&weights.in_proj_a, work_.a, value_heads, true}};
  linear_.multiply(projections, x);

  const auto conv_size = static_cast<std::size_t>(past) * static_cast<std::size_t>(conv);
  state.convolution.load(0, conv_size, work_.conv_in);
  pool_.run(ceil_div(conv, channels_per_task), [&](int task, int) {
    kernels_.delta.convolve(work_.conv_in, conv, vectors.conv1d.data(), past + 1, tokens_, task * channels_per_task,
                            std::min((task + 1) * channels_per_task, conv), work_.conv_out, conv);
  });
  state.convolution.store(0, conv_size, work_.conv_in + static_cast<std::ptrdiff_t>(tokens_) * conv);

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

  delta_heads(state);

  for_rows(tokens_, [&](int first, int count) {
    const auto at = static_cast<std::ptrdiff_t>(first) * value_dim;
    const int head_dim = config_.linear_value_head_dim;
    kernels_.vector.rms_norm(work_.delta_out + at, head_dim, vectors.norm.data(), count * value_heads, head_dim,
                             config_.rms_norm_eps, work_.delta_out + at, head_dim);
    kernels_.vector.silu_multiply(work_.z + at, work_.delta_out + at, work_.delta_out + at,
                                  static_cast<std::size_t>(count) * static_cast<std::size_t>(value_dim));
  });
  const auto y = linear_.activations(work_.delta_out, tokens_, value_dim);
  const Product output[] = {{&weights.out_proj, work_.mixed, config_.hidden_size, false}};
  linear_.multiply(output, y);
}

// The recurrence of every value head over the chunk; work_.a holds log g, work_.b beta.
void Forward::delta_heads(LayerState& state) {
  const int conv = config_.conv_dim(), value_dim = config_.value_dim(), value_heads = config_.linear_num_value_heads;
  const int key_head = config_.linear_key_head_dim, value_head = config_.linear_value_head_dim,
            key_dim = config_.key_dim();
  const int heads_per_key = value_heads / config_.linear_num_key_heads;
  const auto state_size = static_cast<std::size_t>(key_head) * static_cast<std::size_t>(value_head);
  pool_.run(value_heads, [&](int head, int worker) {
    const auto& buffers = work_.workers[static_cast<std::size_t>(worker)];
    const std::size_t at = static_cast<std::size_t>(head) * state_size;
    float* s = state.recurrent.f32(at);
    float* scratch = buffers.delta;
    if (!s) {  // bf16 between passes: the last state_size floats of the scratch hold it in f32
      s = scratch + kernels_.delta.chunk_scratch(key_head, value_head);
      state.recurrent.load(at, state_size, s);
    }
    const float* q = work_.conv_out + static_cast<std::ptrdiff_t>(head / heads_per_key) * key_head;
    const float* k = q + key_dim;
    const float* v =
        work_.conv_out + 2 * static_cast<std::ptrdiff_t>(key_dim) + static_cast<std::ptrdiff_t>(head) * value_head;
    float* out = work_.delta_out + static_cast<std::ptrdiff_t>(head) * value_head;
    if (tokens_ < fewest_for_chunk) {
      for (std::ptrdiff_t t = 0; t < tokens_; ++t)
        kernels_.delta.step(s, q + t * conv, k + t * conv, v + t * conv, std::exp(work_.a[t * value_heads + head]),
                            work_.b[t * value_heads + head], key_head, value_head, out + t * value_dim);
    } else {
      float log_g[chunk_tokens], beta[chunk_tokens];
      for (std::ptrdiff_t first = 0; first < tokens_; first += chunk_tokens) {
        const int count = std::min(chunk_tokens, tokens_ - static_cast<int>(first));
        for (std::ptrdiff_t t = 0; t < count; ++t) {
          log_g[t] = work_.a[(first + t) * value_heads + head];
          beta[t] = work_.b[(first + t) * value_heads + head];
        }
        kernels_.delta.chunk(s, q + first * conv, k + first * conv, conv, v + first * conv, conv, log_g, beta, count,
                             key_head, value_head, out + first * value_dim, value_dim, scratch);
      }
    }
    if (!state.recurrent.f32(at)) state.recurrent.store(at, state_size, s);
  });
}

}  // namespace tqkv::cpu
