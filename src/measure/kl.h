// Kullback-Leibler divergence and the most likely id of rows of logits.
#pragma once
#include <span>

namespace tqkv::measure {

/// ln of the sum of exp(logits), in double.
double log_sum_exp(std::span<const float> logits);
/// KL(p || q) in nats, p and q the softmax of logits [vocab]; in double, never below 0.
double kl_divergence(std::span<const float> p_logits, std::span<const float> q_logits);
/// Index of the largest logit, the first among equals. Throws Error(internal) when it is not finite.
int argmax(std::span<const float> logits);

}  // namespace tqkv::measure
