// Gated delta net: project, convolve, normalise, gates, the delta rule, gated norm, project. Everything in float32.
#include <cmath>

#include "runtime/mlx/delta_rule.h"
#include "runtime/mlx/forward.h"

namespace tqkv::mlx {
namespace {

constexpr float l2_eps = 1e-6f;  // as transformers: inside the root, beside the sum of squares

mx::array l2_norm(const mx::array& x, float scale) {
  const mx::array length = mx::sqrt(mx::add(mx::sum(mx::square(x), -1, true), mx::array(l2_eps)));
  return mx::divide(mx::multiply(x, mx::array(scale)), length);
}

mx::array softplus(const mx::array& x) {
  return mx::logaddexp(x, mx::array(0.0f));
}

// The past of a segment, then its rows, weighted by the taps of each channel; and the new past.
mx::array convolve(LinearState& state, const mx::array& rows, const mx::array& taps) {
  const int past = state.convolution.shape(0), channels = rows.shape(1), tokens = rows.shape(0);
  const mx::array all = mx::astype(mx::concatenate({state.convolution, rows}, 0), mx::float32);
  std::optional<mx::array> sum;
  for (int tap = 0; tap <= past; ++tap) {
    const mx::array part = mx::multiply(mx::slice(all, {tap, 0}, {tap + tokens, channels}),
                                        mx::slice(taps, {tap, 0}, {tap + 1, channels}));
    sum = sum ? mx::add(*sum, part) : part;
  }
  state.convolution =
      mx::contiguous(mx::astype(mx::slice(all, {tokens, 0}, {tokens + past, channels}), state.convolution.dtype()));
  return silu(*sum);
}

}  // namespace

mx::array delta_net(const Pass& pass, std::size_t index, const DeltaArrays& weights, const mx::array& normed) {
  const ModelConfig& config = pass.config;
  const int tokens = normed.shape(0);
  const int key_heads = config.linear_num_key_heads, value_heads = config.linear_num_value_heads;
  const int key_dim = config.linear_key_head_dim, value_dim = config.linear_value_head_dim;
  const mx::array in = weights.in_proj_qkv(normed);
  const mx::array beta = mx::sigmoid(mx::astype(weights.in_proj_b(normed), mx::float32));
  const mx::array log_g =
      mx::multiply(weights.negative_exp_A, softplus(mx::add(weights.in_proj_a(normed), weights.dt_bias)));

  std::vector<mx::array> mixed;
  for (const Segment& segment : pass.segments) {
    LinearState& state = segment.state->states[index];
    const int count = segment.count;
    const mx::array out = convolve(state, segment.of(in), weights.conv1d);
    const auto part = [&](int first, int heads, int dim) {
      return mx::reshape(mx::slice(out, {0, first}, {count, first + heads * dim}), {count, heads, dim});
    };
    const mx::array q = l2_norm(part(0, key_heads, key_dim), 1.0f / std::sqrt(static_cast<float>(key_dim)));
    const mx::array k = l2_norm(part(key_heads * key_dim, key_heads, key_dim), 1.0f);
    const mx::array v = part(2 * key_heads * key_dim, value_heads, value_dim);
    mixed.push_back(delta_rule(q, k, v, segment.of(log_g), segment.of(beta), state.recurrent));
    if (segment.keep) segment.keep->states.push_back(state);
  }
  const mx::array all = mixed.size() == 1 ? mixed.front() : mx::concatenate(mixed, 0);
  const mx::array z = mx::reshape(weights.in_proj_z(normed), {tokens, value_heads, value_dim});
  const mx::array gated = mx::multiply(rms_norm(config, all, weights.norm), silu(z));
  return weights.out_proj(mx::reshape(gated, {tokens, value_heads * value_dim}));
}

}  // namespace tqkv::mlx
