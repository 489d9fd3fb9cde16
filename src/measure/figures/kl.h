// Kullback-Leibler divergence and the most likely id of rows of logits.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace tqkv::measure {

/// ln of the sum of exp(logits), in double.
double log_sum_exp(std::span<const float> logits);
/// KL(p || q) in nats, p and q the softmax of logits [vocab]; in double, never below 0.
double kl_divergence(std::span<const float> p_logits, std::span<const float> q_logits);
/// The same of log p, log_p(i) for each i, and logits q whose log_sum_exp is q_norm.
template <class LogP>
double kl_of(const LogP& log_p, std::span<const float> q_logits, double q_norm) {
  double sum = 0;
  for (std::size_t i = 0; i < q_logits.size(); ++i) {
    const double p = log_p(i);
    if (std::isinf(p)) continue;  // p log p is 0 there
    sum += std::exp(p) * (p - (static_cast<double>(q_logits[i]) - q_norm));
  }
  return std::max(sum, 0.0);  // rounding may leave a tiny negative sum
}
/// Index of the largest logit, the first among equals. Throws Error(internal) when it is not finite.
int argmax(std::span<const float> logits);

}  // namespace tqkv::measure
