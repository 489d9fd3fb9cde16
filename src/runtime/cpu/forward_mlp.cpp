// The second half of a layer: a dense SwiGLU, or routed experts and a shared one.
#include <algorithm>
#include <cmath>

#include "runtime/cpu/forward.h"

namespace tqkv::cpu {

void Forward::mlp(const LayerWeights& layer) {
  if (config_.moe())
    experts(layer);
  else
    dense(layer.mlp);
}

// gate <- silu(gate) * up over rows [rows, inner], quantized to `out` where that is given.
void Forward::swiglu(float* gate, float* up, int rows, int inner, Rows16* out) {
  if (out) {
    out->rows = rows;
    out->cols = inner;
  }
  for_rows(rows, [&](int first, int count) {
    const auto at = static_cast<std::ptrdiff_t>(first) * inner;
    kernels_.vector.silu_multiply(gate + at, up + at, gate + at,
                                  static_cast<std::size_t>(count) * static_cast<std::size_t>(inner));
    if (out) kernels_.matrix.quantize_rows(gate + at, count, inner, out, first);
  });
}

void Forward::dense(const MlpWeights& weights) {
  const int inner = config_.intermediate_size;
  const auto x = linear_.activations(work_.normed, tokens_, config_.hidden_size);
  const Product first[] = {{&weights.gate_proj, work_.gate, inner, false}, {&weights.up_proj, work_.up, inner, false}};
  linear_.multiply(first, x);
  const bool integer = linear_.integer(inner);
  swiglu(work_.gate, work_.up, tokens_, inner, integer && tokens_ > 1 ? &work_.many16 : nullptr);
  Activations h{work_.gate, tokens_, inner, nullptr, nullptr};
  if (integer && tokens_ > 1) h.rows16 = &work_.many16;
  if (integer && tokens_ == 1) {
    work_.inner16[0].cols = inner;
    kernels_.matrix.quantize16(work_.gate, &work_.inner16[0]);
    h.row16 = &work_.inner16[0];
  }
  const Product second[] = {{&weights.down_proj, work_.mixed, config_.hidden_size, false}};
  linear_.multiply(second, h);
}

void Forward::experts(const LayerWeights& layer) {
  route(layer);
  const auto index = static_cast<int>(&layer - engine_.weights().layers.data());
  const auto pairs = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(config_.num_experts_per_tok);
  engine_.weight_check().experts(index, {work_.pair_expert, pairs});
  if (tokens_ == 1)
    experts_of_one(layer);
  else
    experts_of_many(layer);
}

// Router in f32: softmax over all experts, the best few, renormalised; and the shared expert's factor. Ties go to the
// lower expert.
void Forward::route(const LayerWeights& layer) {
  const int experts = config_.num_experts, chosen = config_.num_experts_per_tok;
  const Product products[] = {{&layer.router, work_.router, experts, true},
                              {&layer.shared_expert_gate, work_.shared_factor, 1, true}};
  linear_.multiply(products, Activations{work_.normed, tokens_, config_.hidden_size, nullptr, nullptr});
  for_rows(tokens_, [&](int first, int count) {
    for (std::ptrdiff_t t = first; t < first + count; ++t) {
      float* p = work_.router + t * experts;
      int* expert = work_.pair_expert + t * chosen;
      float* weight = work_.pair_weight + t * chosen;
      kernels_.vector.softmax(p, static_cast<std::size_t>(experts));
      float total = 0;
      for (int k = 0; k < chosen; ++k) {
        const auto best = static_cast<int>(std::max_element(p, p + experts) - p);
        expert[k] = best;
        weight[k] = p[best];
        total += p[best];
        p[best] = -1.0f;
      }
      if (config_.norm_topk_prob)
        for (int k = 0; k < chosen; ++k) weight[k] /= total;
      work_.shared_factor[t] = 1.0f / (1.0f + std::exp(-work_.shared_factor[t]));
    }
  });
}

// One token: the chosen experts and the shared one side by side, rows shared out over the threads.
void Forward::experts_of_one(const LayerWeights& layer) {
  const int chosen = config_.num_experts_per_tok, inner = config_.moe_intermediate_size,
            shared = config_.shared_expert_intermediate_size;
  const auto x = linear_.activations(work_.normed, 1, config_.hidden_size);
  const int block = rows_per_task(layer.experts.gate_proj, 1);
  const int own = ceil_div(inner, block), own_shared = ceil_div(shared, block);
  pool_.run(2 * (chosen * own + own_shared), [&](int task, int worker) {
    const int slot = std::min(task / (2 * own), chosen);
    const bool is_shared = slot == chosen;
    const int blocks = is_shared ? own_shared : own, part = task - slot * 2 * own;  // gate's blocks, then up's
    const bool up = part >= blocks;
    const int begin = (up ? part - blocks : part) * block;
    const MlpWeights& weights = is_shared ? layer.shared_expert : layer.experts;
    const Matrix& all = up ? weights.up_proj : weights.gate_proj;
    const Matrix w = is_shared ? all : all.expert(work_.pair_expert[slot]);
    float* y = is_shared ? (up ? work_.shared_up : work_.shared_gate)
                         : (up ? work_.up : work_.gate) + static_cast<std::ptrdiff_t>(slot) * inner;
    linear_.multiply_rows({&w, y, 0, false}, x, begin, std::min(begin + block, w.out), worker);
  });
  pool_.run(chosen + 1, [&](int slot, int) {
    const bool is_shared = slot == chosen;
    const int cols = is_shared ? shared : inner;
    float* gate = is_shared ? work_.shared_gate : work_.gate + static_cast<std::ptrdiff_t>(slot) * inner;
    const float* up = is_shared ? work_.shared_up : work_.up + static_cast<std::ptrdiff_t>(slot) * inner;
    kernels_.vector.silu_multiply(gate, up, gate, static_cast<std::size_t>(cols));
    if (!linear_.integer(cols)) return;
    auto& row16 = work_.inner16[static_cast<std::size_t>(slot)];
    row16.cols = cols;
    kernels_.matrix.quantize16(gate, &row16);
  });
  // Every expert's output by itself, the shared one's in its place in `mixed`, then their sum.
  const int hidden = config_.hidden_size, down_block = rows_per_task(layer.experts.down_proj, 1);
  const int down_tasks = ceil_div(hidden, down_block);
  pool_.run((chosen + 1) * down_tasks, [&](int task, int worker) {
    const int slot = task / down_tasks, begin = task % down_tasks * down_block;
    const bool is_shared = slot == chosen;
    const Matrix w =
        is_shared ? layer.shared_expert.down_proj : layer.experts.down_proj.expert(work_.pair_expert[slot]);
    const int cols = is_shared ? shared : inner;
    Activations h{is_shared ? work_.shared_gate : work_.gate + static_cast<std::ptrdiff_t>(slot) * inner, 1, cols,
                  nullptr, nullptr};
    if (linear_.integer(cols)) h.row16 = &work_.inner16[static_cast<std::size_t>(slot)];
    float* y = is_shared ? work_.mixed : work_.pair_out + static_cast<std::ptrdiff_t>(slot) * hidden;
    linear_.multiply_rows({&w, y, 0, false}, h, begin, std::min(begin + down_block, hidden), worker);
  });
  for (int i = 0; i < hidden; ++i) work_.mixed[i] *= work_.shared_factor[0];
  for (int slot = 0; slot < chosen; ++slot)
    kernels_.vector.add_scaled(work_.mixed, work_.pair_out + static_cast<std::ptrdiff_t>(slot) * hidden,
                               work_.pair_weight[slot], static_cast<std::size_t>(hidden));
}

// Many tokens: the (token, expert) pairs sorted by expert, so that each expert's weights are read once for all its
// tokens.
void Forward::experts_of_many(const LayerWeights& layer) {
  const int chosen = config_.num_experts_per_tok, inner = config_.moe_intermediate_size, hidden = config_.hidden_size;
  const int experts = config_.num_experts, pairs = tokens_ * chosen;
  int* begin = work_.expert_begin;
  std::fill_n(begin, experts + 1, 0);
  for (int pair = 0; pair < pairs; ++pair) ++begin[work_.pair_expert[pair] + 1];
  for (int e = 0; e < experts; ++e) begin[e + 1] += begin[e];
  std::vector<int> next(begin, begin + experts);
  for (int pair = 0; pair < pairs; ++pair) {
    const int place = next[static_cast<std::size_t>(work_.pair_expert[pair])]++;
    work_.pair_place[pair] = place;
    work_.place_token[place] = pair / chosen;
  }

  const bool integer = linear_.integer(inner);
  const auto x = linear_.activations(work_.normed, tokens_, hidden);
  const Planes input = planes_of(session_.activations_.expert_input),
               tolerant = planes_of(session_.activations_.tolerant);
  const auto multiply = [&](const Matrix& all, int expert, const float* rows, const Rows16* rows16, Planes taken,
                            const int* index, float* out, int first, int last, int worker) {
    const Matrix w = all.expert(expert);
    const int count = begin[expert + 1] - begin[expert];
    float* y = out + static_cast<std::ptrdiff_t>(begin[expert]) * w.out + first;
    if (rows16 && w.quantized())
      kernels_.matrix.multiply_rows(w, first, last, *rows16, taken, index, count, y, w.out);
    else
      kernels_.matrix.multiply_f32(w, first, last, rows, w.in, index, count, y, w.out,
                                   work_.workers[static_cast<std::size_t>(worker)].matrix);
  };
  // Row blocks of every expert that has tokens, counted so that a task finds its expert by division alone.
  const int block = 64, gate_blocks = ceil_div(inner, block);
  pool_.run(experts * 2 * gate_blocks, [&](int task, int worker) {
    const int expert = task / (2 * gate_blocks), part = task % (2 * gate_blocks);
    if (begin[expert] == begin[expert + 1]) return;
    const bool up = part >= gate_blocks;
    const int first = part % gate_blocks * block;
    multiply(up ? layer.experts.up_proj : layer.experts.gate_proj, expert, x.x, x.rows16, input,
             work_.place_token + begin[expert], up ? work_.up : work_.gate, first, std::min(first + block, inner),
             worker);
  });
  swiglu(work_.gate, work_.up, pairs, inner, integer ? &work_.many16 : nullptr);
  // place_token is no longer needed: it becomes the list of rows that each expert's second product reads.
  for (int place = 0; place < pairs; ++place) work_.place_token[place] = place;
  const int down_blocks = ceil_div(hidden, 4 * block);
  pool_.run(experts * down_blocks, [&](int task, int worker) {
    const int expert = task / down_blocks, first = task % down_blocks * 4 * block;
    if (begin[expert] == begin[expert + 1]) return;
    multiply(layer.experts.down_proj, expert, work_.gate, integer ? &work_.many16 : nullptr, tolerant,
             work_.place_token + begin[expert], work_.pair_out, first, std::min(first + 4 * block, hidden), worker);
  });

  shared_expert(layer, x);
  for_rows(tokens_, [&](int first, int count) {
    for (std::ptrdiff_t t = first; t < first + count; ++t) {
      float* y = work_.mixed + t * hidden;  // holds the shared expert's output
      const float factor = work_.shared_factor[t];
      for (int i = 0; i < hidden; ++i) y[i] *= factor;
      for (int k = 0; k < chosen; ++k)
        kernels_.vector.add_scaled(
            y, work_.pair_out + static_cast<std::ptrdiff_t>(work_.pair_place[t * chosen + k]) * hidden,
            work_.pair_weight[t * chosen + k], static_cast<std::size_t>(hidden));
    }
  });
}

void Forward::shared_expert(const LayerWeights& layer, const Activations& x) {
  const int inner = config_.shared_expert_intermediate_size;
  const Planes planes = planes_of(session_.activations_.tolerant);
  const Product first[] = {{&layer.shared_expert.gate_proj, work_.shared_gate, inner, false, planes},
                           {&layer.shared_expert.up_proj, work_.shared_up, inner, false, planes}};
  linear_.multiply(first, x);
  const bool integer = linear_.integer(inner);
  swiglu(work_.shared_gate, work_.shared_up, tokens_, inner, integer ? &work_.shared16 : nullptr);
  const Product second[] = {{&layer.shared_expert.down_proj, work_.mixed, config_.hidden_size, false, planes}};
  linear_.multiply(second, {work_.shared_gate, tokens_, inner, integer ? &work_.shared16 : nullptr, nullptr});
}

}  // namespace tqkv::cpu
