#include "measure/figures/kl.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "tqkv/error.h"

namespace tqkv::measure {

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

double kl_divergence(std::span<const float> p_logits, std::span<const float> q_logits) {
  assert(p_logits.size() == q_logits.size() && !p_logits.empty());
  const double p_norm = log_sum_exp(p_logits);
  const auto log_p = [&](std::size_t i) { return static_cast<double>(p_logits[i]) - p_norm; };
  return kl_of(log_p, q_logits, log_sum_exp(q_logits));
}

int argmax(std::span<const float> logits) {
  assert(!logits.empty());
  std::size_t best = 0;
  bool finite = true;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    finite = finite && !std::isnan(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  if (!finite || !std::isfinite(logits[best])) {
    throw Error(ErrorKind::internal, "logits: some are not finite, which no prompt should cause");
  }
  return static_cast<int>(best);
}

}  // namespace tqkv::measure
