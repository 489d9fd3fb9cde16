#include "runtime/mlx/draw.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tqkv::mlx {
namespace {

mx::array number(float value) {
  return mx::array(value);
}

mx::array first_of(const mx::array& values, int count) {
  return mx::slice(values, {0}, {count});
}

/// The ids that may be drawn, the likeliest first where their order matters, and their logits.
struct Candidates {
  mx::array ids, logits;
};

Candidates likeliest(const Sampling& sampling, const mx::array& logits) {
  const int vocab = logits.shape(0), k = sampling.top_k > 0 ? std::min(sampling.top_k, vocab) : vocab;
  mx::array ids = mx::arange(vocab);
  if (k < vocab) ids = first_of(mx::argpartition(mx::negative(logits), k - 1), k);
  mx::array own = k < vocab ? mx::take(logits, ids) : logits;
  if (sampling.top_p < 1.0f) {
    const mx::array order = mx::argsort(mx::negative(own));
    ids = mx::take(ids, order);
    own = mx::take(own, order);
  }
  return {mx::astype(ids, mx::int32), own};
}

}  // namespace

Draw::Draw(const Sampler& sampler) : sampling_(sampler.sampling()) {
  const std::vector<bool>& allowed = sampler.allowed();
  if (allowed.empty()) return;
  const std::vector<std::uint8_t> values(allowed.begin(), allowed.end());
  allowed_ = mx::array(values.begin(), {static_cast<int>(values.size())}, mx::bool_);
}

mx::array Draw::operator()(const mx::array& logits, std::uint64_t position) const {
  const mx::array finite = mx::all(mx::isfinite(logits));
  const mx::array own = allowed_ ? mx::where(*allowed_, logits, number(-INFINITY)) : logits;
  const auto checked = [&](const mx::array& id) {
    return mx::reshape(mx::where(finite, mx::astype(id, mx::int32), mx::array(-1)), {1});
  };
  if (sampling_.is_greedy()) return checked(mx::argmax(own));

  const auto [ids, values] = likeliest(sampling_, own);
  mx::array weight = mx::exp(mx::divide(mx::subtract(values, mx::max(values)), number(sampling_.temperature)));
  const auto keep = [&](const mx::array& kept) { weight = mx::where(kept, weight, number(0.0f)); };
  if (sampling_.top_p < 1.0f) {
    const mx::array share = mx::multiply(mx::sum(weight), number(sampling_.top_p));
    keep(mx::less(mx::cumsum(weight, 0, false, false), share));  // what the likelier ones hold
  }
  if (sampling_.min_p > 0.0f) keep(mx::greater_equal(weight, number(sampling_.min_p)));

  const mx::array by_id = mx::argsort(ids);
  const mx::array passed = mx::cumsum(mx::take(weight, by_id));
  const mx::array all = mx::slice(passed, {passed.shape(0) - 1}, {passed.shape(0)});
  // Below 1 in float32 too, so that some id passes the target.
  const float share = std::min(static_cast<float>(uniform(sampling_.seed, position)), 1.0f - 0x1p-24f);
  const mx::array place = mx::argmax(mx::greater(passed, mx::multiply(all, number(share))));
  return checked(mx::take(mx::take(ids, by_id), place));
}

}  // namespace tqkv::mlx
