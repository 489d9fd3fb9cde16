// SwiGLU, dense or as routed experts with a shared one beside them.
#include "runtime/mlx/forward.h"

namespace tqkv::mlx {
namespace {

constexpr int fewest_to_sort = 64;  // pairs of a row and an expert, as mlx-lm

}  // namespace

mx::array mlp(const MlpArrays& weights, const mx::array& normed) {
  return weights.down_proj(mx::multiply(silu(weights.gate_proj(normed)), weights.up_proj(normed)));
}

mx::array experts(const ModelConfig& config, const ExpertArrays& weights, const mx::array& normed) {
  const int tokens = normed.shape(0), each = config.num_experts_per_tok, count = config.num_experts;
  const mx::array p = mx::softmax(mx::astype(weights.router(normed), mx::float32), -1);
  const mx::array best = mx::slice(mx::argpartition(p, count - each, -1), {0, count - each}, {tokens, count});
  mx::array share = mx::take_along_axis(p, best, -1);
  if (config.norm_topk_prob) share = mx::divide(share, mx::sum(share, -1, true));

  const mx::array chosen = mx::flatten(best);  // [pairs]
  const bool sorted = tokens * each >= fewest_to_sort;
  const mx::array order = sorted ? mx::argsort(chosen) : mx::arange(tokens * each);
  const mx::array rows = mx::take(normed, mx::floor_divide(order, mx::array(each)), 0);
  const mx::array index = sorted ? mx::take(chosen, order) : chosen;
  const mx::array inner = mx::multiply(silu(weights.experts.gate_proj.of_each(rows, index, sorted)),
                                       weights.experts.up_proj.of_each(rows, index, sorted));
  mx::array out = weights.experts.down_proj.of_each(inner, index, sorted);  // [pairs, H]
  if (sorted) out = mx::take(out, mx::argsort(order), 0);
  out = mx::reshape(out, {tokens, each, config.hidden_size});
  const mx::array routed = mx::sum(mx::multiply(out, mx::expand_dims(share, 2)), 1);
  return mx::add(routed, mx::multiply(mlp(weights.shared, normed), mx::sigmoid(weights.shared_gate(normed))));
}

}  // namespace tqkv::mlx
