// Gated delta net: project, convolve, normalise, gates, the delta rule, gated norm, project. Everything in float32.
#include <cmath>

#include "runtime/mlx/device.h"
#include "runtime/mlx/forward.h"

namespace tqkv::mlx {
namespace {

constexpr float l2_eps = 1e-6f;      // as transformers: inside the root, beside the sum of squares
constexpr int chunk_tokens = 64;     // of the chunked delta rule
constexpr int fewest_for_chunk = 8;  // below it, token by token is less work

mx::array l2_norm(const mx::array& x, float scale) {
  const mx::array length = mx::sqrt(mx::add(mx::sum(mx::square(x), -1, true), mx::array(l2_eps)));
  return mx::divide(mx::multiply(x, mx::array(scale)), length);
}

mx::array softplus(const mx::array& x) {
  return mx::logaddexp(x, mx::array(0.0f));
}

// The past of a segment, then its rows, weighted by the taps of each channel; and the new past.
mx::array convolve(const Segment& segment, LinearState& state, const mx::array& rows, const mx::array& taps) {
  const int past = state.convolution.shape(0), channels = rows.shape(1), tokens = rows.shape(0);
  const mx::array all = mx::concatenate({state.convolution, rows}, 0);
  static_cast<void>(segment);
  std::optional<mx::array> sum;
  for (int tap = 0; tap <= past; ++tap) {
    const mx::array part = mx::multiply(mx::slice(all, {tap, 0}, {tap + tokens, channels}),
                                        mx::slice(taps, {tap, 0}, {tap + 1, channels}));
    sum = sum ? mx::add(*sum, part) : part;
  }
  state.convolution = mx::contiguous(mx::slice(all, {tokens, 0}, {tokens + past, channels}));
  return silu(*sum);
}

/// What the recurrence reads, head by head: q, k [heads, tokens, key_head_dim], v [heads, tokens, value_head_dim],
/// log_g and beta [heads, tokens].
struct Recurrence {
  mx::array q, k, v, log_g, beta;
  Recurrence tokens(int first, int last) const {
    const auto cut = [&](const mx::array& x) {
      mx::Shape start(x.ndim(), 0), stop = x.shape();
      start[1] = first;
      stop[1] = last;
      return mx::slice(x, start, stop);
    };
    return {cut(q), cut(k), cut(v), cut(log_g), cut(beta)};
  }
};

// S [heads, value dim, key dim] over a chunk:  d = (I + L)^-1 beta (v - e^G S k),  L_tj = beta_t e^(G_t - G_j) k_t k_j
// below the diagonal, G the sums of log_g;  out = e^G S q + sum_j<=t e^(G_t - G_j) (k_j q_t) d_j.
mx::array chunk(const Recurrence& x, mx::array& s) {
  const int tokens = x.q.shape(1);
  const mx::array sums = mx::cumsum(x.log_g, 1);                                         // G
  const mx::array decay = mx::expand_dims(mx::exp(sums), 2);                             // [heads, tokens, 1]
  const mx::array beta = mx::expand_dims(x.beta, 2);                                     // [heads, tokens, 1]
  const mx::array t = mx::arange(tokens), earlier = mx::less(t, mx::expand_dims(t, 1));  // j < t
  const mx::array own = mx::less_equal(t, mx::expand_dims(t, 1));
  const mx::array differences = mx::subtract(mx::expand_dims(sums, 2), mx::expand_dims(sums, 1));
  // Above the diagonal differences are positive and overflow: they are masked before the exponential.
  const mx::array between = mx::exp(mx::where(own, differences, mx::array(-INFINITY)));
  const mx::array kt = mx::swapaxes(x.k, 1, 2), st = mx::swapaxes(s, 1, 2);
  const mx::array lower =
      mx::where(earlier, mx::multiply(mx::multiply(mx::matmul(x.k, kt), between), beta), mx::array(0.0f));

  // (I + L)^-1 = (I - L)(I + L^2)(I + L^4)…: L^tokens is zero.
  const mx::array identity = mx::eye(tokens);
  mx::array inverse = mx::subtract(identity, lower), power = lower;
  for (int reached = 2; reached < tokens; reached *= 2) {
    power = mx::matmul(power, power);
    inverse = mx::matmul(inverse, mx::add(identity, power));
  }
  const mx::array wanted = mx::multiply(beta, mx::subtract(x.v, mx::multiply(decay, mx::matmul(x.k, st))));
  const mx::array d = mx::matmul(inverse, wanted);  // [heads, tokens, value dim]
  const mx::array scores = mx::multiply(mx::matmul(x.q, kt), between);
  const mx::array out = mx::add(mx::multiply(decay, mx::matmul(x.q, st)), mx::matmul(scores, d));
  const mx::array last = mx::slice(sums, {0, tokens - 1}, {sums.shape(0), tokens});  // [heads, 1]
  const mx::array left = mx::expand_dims(mx::exp(mx::subtract(last, sums)), 2);
  s = mx::add(mx::multiply(mx::expand_dims(mx::exp(last), 2), s),
              mx::matmul(mx::swapaxes(mx::multiply(left, d), 1, 2), x.k));
  return out;
}

mx::array in_chunks(const Recurrence& x, mx::array& s) {
  std::vector<mx::array> out;
  const int tokens = x.q.shape(1);
  for (int first = 0; first < tokens; first += chunk_tokens)
    out.push_back(chunk(x.tokens(first, std::min(tokens, first + chunk_tokens)), s));
  return out.size() == 1 ? out.front() : mx::concatenate(out, 1);
}

// Shapes that MLX computes in one kernel on the GPU.
bool fused(const ModelConfig& config) {
  const int keys = config.linear_num_key_heads, values = config.linear_num_value_heads;
  const bool heads = (keys == 16 && (values == 16 || values == 32 || values == 48 || values == 64)) ||
                     (keys == 24 && values == 24) || (keys == 32 && values == 32);
  return !on_processor() && config.linear_key_head_dim == 128 && config.linear_value_head_dim == 128 && heads;
}

}  // namespace

mx::array delta_net(const Pass& pass, std::size_t index, const DeltaArrays& weights, const mx::array& normed) {
  const ModelConfig& config = pass.config;
  const int tokens = normed.shape(0);
  const int key_heads = config.linear_num_key_heads, value_heads = config.linear_num_value_heads;
  const int key_dim = config.linear_key_head_dim, value_dim = config.linear_value_head_dim;
  const mx::array in = weights.in_proj_qkv(normed);
  const mx::array beta = mx::sigmoid(weights.in_proj_b(normed));
  const mx::array log_g =
      mx::multiply(weights.negative_exp_A, softplus(mx::add(weights.in_proj_a(normed), weights.dt_bias)));

  std::vector<mx::array> mixed;
  for (const Segment& segment : pass.segments) {
    LinearState& state = segment.state->states[index];
    const int count = segment.count;
    const mx::array out = convolve(segment, state, segment.of(in), weights.conv1d);
    const auto part = [&](int first, int heads, int dim) {
      return mx::reshape(mx::slice(out, {0, first}, {count, first + heads * dim}), {count, heads, dim});
    };
    const mx::array q = l2_norm(part(0, key_heads, key_dim), 1.0f / std::sqrt(static_cast<float>(key_dim)));
    const mx::array k = l2_norm(part(key_heads * key_dim, key_heads, key_dim), 1.0f);
    const mx::array v = part(2 * key_heads * key_dim, value_heads, value_dim);
    const mx::array own_g = segment.of(log_g), own_beta = segment.of(beta);
    if (count < fewest_for_chunk || fused(config)) {
      const auto one = [](const mx::array& x) { return mx::expand_dims(x, 0); };
      const std::vector<mx::array> made = mx::fast::gated_delta_update(one(q), one(k), one(v), one(mx::exp(own_g)),
                                                                       one(own_beta), one(state.recurrent));
      mixed.push_back(mx::squeeze(made[0], 0));
      state.recurrent = mx::squeeze(made[1], 0);
      continue;
    }
    const auto by_head = [&](const mx::array& x, int times) {
      const mx::array heads = times > 1 ? mx::repeat(x, times, 1) : x;
      return mx::swapaxes(heads, 0, 1);
    };
    const int times = value_heads / key_heads;
    const Recurrence x{by_head(q, times), by_head(k, times), by_head(v, 1), mx::transpose(own_g),
                       mx::transpose(own_beta)};
    mixed.push_back(mx::swapaxes(in_chunks(x, state.recurrent), 0, 1));
  }
  const mx::array all = mixed.size() == 1 ? mixed.front() : mx::concatenate(mixed, 0);
  const mx::array z = mx::reshape(weights.in_proj_z(normed), {tokens, value_heads, value_dim});
  const mx::array gated = mx::multiply(rms_norm(config, all, weights.norm), silu(z));
  return weights.out_proj(mx::reshape(gated, {tokens, value_heads * value_dim}));
}

}  // namespace tqkv::mlx
