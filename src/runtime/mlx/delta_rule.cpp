#include "runtime/mlx/delta_rule.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/mlx/device.h"

namespace tqkv::mlx {
namespace {

constexpr int chunk_tokens = 64;     // of the chunked form
constexpr int rows_by_powers = 4;    // of its inverse
constexpr int fewest_for_chunk = 8;  // below it, token by token is less work

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

// (I + L)^-1 of L [heads, n, n], which has nothing on and above its diagonal. A few rows by
// (I - L)(I + L^2)(I + L^4)…, as L^n is zero; more by halves. Powers of a large L grow beyond what float32 can take
// back where keys repeat: with all ones L^32 of 64 rows reaches 10^18.
mx::array inverse_of(const mx::array& lower) {
  const int heads = lower.shape(0), n = lower.shape(1);
  if (n <= rows_by_powers) {
    const mx::array identity = mx::eye(n);
    mx::array inverse = mx::subtract(identity, lower), power = lower;
    for (int reached = 2; reached < n; reached *= 2) {
      power = mx::matmul(power, power);
      inverse = mx::matmul(inverse, mx::add(identity, power));
    }
    return inverse;
  }
  const int half = (n / 2 + rows_by_powers - 1) / rows_by_powers * rows_by_powers;
  const auto block = [&](int row, int rows, int column, int columns) {
    return mx::slice(lower, {0, row, column}, {heads, row + rows, column + columns});
  };
  const mx::array a = inverse_of(block(0, half, 0, half)), b = inverse_of(block(half, n - half, half, n - half));
  const mx::array below = mx::negative(mx::matmul(b, mx::matmul(block(half, n - half, 0, half), a)));
  return mx::concatenate({mx::concatenate({a, mx::zeros({heads, half, n - half})}, 2), mx::concatenate({below, b}, 2)},
                         1);
}

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

  const mx::array inverse = inverse_of(lower);
  const mx::array wanted = mx::multiply(beta, mx::subtract(x.v, mx::multiply(decay, mx::matmul(x.k, st))));
  const mx::array d = mx::matmul(inverse, wanted);  // [heads, tokens, value dim]
  const mx::array scores = mx::multiply(mx::matmul(x.q, kt), between);
  mx::array out = mx::add(mx::multiply(decay, mx::matmul(x.q, st)), mx::matmul(scores, d));
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
bool fused(const mx::array& k, const mx::array& v) {
  const int keys = k.shape(1), values = v.shape(1);
  const bool heads = (keys == 16 && (values == 16 || values == 32 || values == 48 || values == 64)) ||
                     (keys == 24 && values == 24) || (keys == 32 && values == 32);
  return !on_processor() && k.shape(2) == 128 && v.shape(2) == 128 && heads;
}

}  // namespace

mx::array delta_rule(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& log_g,
                     const mx::array& beta, mx::array& state) {
  const int tokens = q.shape(0), times = v.shape(1) / k.shape(1);
  if (tokens < fewest_for_chunk || fused(k, v)) {
    const auto one = [](const mx::array& x) { return mx::expand_dims(x, 0); };
    const std::vector<mx::array> made =
        mx::fast::gated_delta_update(one(q), one(k), one(v), one(mx::exp(log_g)), one(beta), one(state));
    state = mx::squeeze(made[1], 0);
    return mx::squeeze(made[0], 0);
  }
  const auto by_head = [](const mx::array& x, int repeats) {
    return mx::swapaxes(repeats > 1 ? mx::repeat(x, repeats, 1) : x, 0, 1);
  };
  const Recurrence x{by_head(q, times), by_head(k, times), by_head(v, 1), mx::transpose(log_g), mx::transpose(beta)};
  return mx::swapaxes(in_chunks(x, state), 0, 1);
}

}  // namespace tqkv::mlx
