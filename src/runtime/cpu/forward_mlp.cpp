// The second half of a layer: a dense SwiGLU, or routed experts and a shared one.
#include <algorithm>
#include <cmath>

#include "runtime/cpu/forward.h"

namespace tqkv::cpu {
namespace {

/// The rows of the batch that one expert serves: places begin..end-1 in the order of experts. The shared expert serves
/// every row, in its own buffers.
struct Served {
  int expert = 0;
  bool shared = false;
  int begin = 0, end = 0;
  bool many = false;  // rows of prompts among them
  int blocks = 0;     // tasks of a product, each so many rows of the matrix:
  int block = 0;
};

}  // namespace

void Forward::mlp(const LayerWeights& layer) {
  if (config_.moe())
    experts(layer);
  else
    dense(layer.mlp);
}

void Forward::dense(const MlpWeights& weights) {
  const int inner = config_.intermediate_size;
  const auto x = linear_.activations(work_.normed, config_.hidden_size);
  const Product first[] = {{&weights.gate_proj, work_.gate, inner, false}, {&weights.up_proj, work_.up, inner, false}};
  linear_.multiply(first, x);
  Activations h{work_.gate, inner, nullptr, nullptr};
  if (linear_.integer(inner)) {
    h.row16 = work_.inner16.data();
    h.rows16 = &work_.many16;
    h.rows16->rows = tokens_;
    h.rows16->cols = inner;
  }
  for_rows(tokens_, [&](int begin, int count) {
    float* gate = row(work_.gate, begin, inner);
    kernels_.vector.silu_multiply(gate, row(work_.up, begin, inner), gate,
                                  static_cast<std::size_t>(count) * static_cast<std::size_t>(inner));
    linear_.quantize(h, begin, count);
  });
  const Product second[] = {{&weights.down_proj, work_.mixed, config_.hidden_size, false}};
  linear_.multiply(second, h);
}

// Router in f32: softmax over all experts, the best few, renormalised; and the shared expert's factor. Ties go to the
// lower expert.
void Forward::route(const LayerWeights& layer) {
  const int experts = config_.num_experts, chosen = config_.num_experts_per_tok;
  const Product products[] = {{&layer.router, work_.router, experts, true},
                              {&layer.shared_expert_gate, work_.shared_factor, 1, true}};
  linear_.multiply(products, Activations{work_.normed, config_.hidden_size, nullptr, nullptr});
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

// The (row, expert) pairs sorted by expert, so that each expert's weights are read once for all its rows; the shared
// expert beside them. Pairs of an expert lie in the order of rows, so that those computed alike lie together.
void Forward::experts(const LayerWeights& layer) {
  route(layer);
  const int chosen = config_.num_experts_per_tok, inner = config_.moe_intermediate_size, hidden = config_.hidden_size;
  const int shared_inner = config_.shared_expert_intermediate_size, count = config_.num_experts;
  const int pairs = tokens_ * chosen, singles = batch_.singles();
  const auto index = static_cast<int>(&layer - engine_.weights().layers.data());
  engine_.weight_check().experts(index, {work_.pair_expert, static_cast<std::size_t>(pairs)});

  int* begin = work_.expert_begin;
  std::fill_n(begin, count + 1, 0);
  for (int pair = 0; pair < pairs; ++pair) ++begin[work_.pair_expert[pair] + 1];
  for (int e = 0; e < count; ++e) begin[e + 1] += begin[e];
  for (int pair = 0; pair < pairs; ++pair) {  // begin[e] moves to the end of expert e
    const int place = begin[work_.pair_expert[pair]]++;
    work_.pair_place[pair] = place;
    work_.place_pair[place] = pair;
    work_.place_row[place] = pair / chosen;
    work_.place[place] = place;
  }
  const auto shared_integer = linear_.integer(shared_inner), integer = linear_.integer(inner);
  const auto x = linear_.activations(work_.normed, hidden);

  // A product of one expert with the rows that it serves: `rows` and `rows16` are indexed by `many`, `row16` by `one`.
  struct Input {
    const float* rows;
    const Row16* row16;
    const Rows16* rows16;
    const int *one, *many;
  };
  const auto multiply = [&](const Matrix& w, const Served& served, const Input& input, Tolerance tolerance, float* out,
                            int first, int last, int worker) {
    const bool integers = input.rows16 && w.quantized();
    float* scratch = work_.workers[static_cast<std::size_t>(worker)].matrix;
    for (int place = served.begin; place < served.end;) {
      const int own = served.shared ? place : work_.place_row[place];
      const Run& run = batch_.run_of(own);
      // In integers up to the end of the run; in floats up to that of the segment, unless rows are single.
      const bool whole_run = integers || run.single;
      const int end_row = whole_run ? run.first + run.count : batch_.segment_of(own).last() + 1;
      int end = place + 1;
      while (end < served.end && (served.shared ? end : work_.place_row[end]) < end_row) ++end;
      const int rows = end - place;
      float* y = row(out, place, w.out) + first;
      const int* many = input.many + place;
      if (integers && run.single)
        kernels_.matrix.multiply16(w, first, last, input.row16, input.one + place, rows, y, w.out);
      else if (integers)
        kernels_.matrix.multiply_rows(w, first, last, *input.rows16, run.planes(tolerance), many, rows, y, w.out);
      else
        kernels_.matrix.multiply_f32(w, first, last, input.rows, w.in, many, rows,
                                     run.single ? Additions::along_rows : additions_of(rows), y, w.out, scratch);
      place = end;
    }
  };
  // The experts that serve a row, with the tasks of products of `many` rows of the matrix where prompts are among them.
  const auto served_by = [&](const Matrix& expert, const Matrix& shared, int many, int shared_many) {
    std::vector<Served> all;
    const auto add = [&](const Matrix& w, Served served, int block) {
      served.block = served.many ? block : rows_per_task(w);
      served.blocks = ceil_div(w.out, served.block);
      all.push_back(served);
    };
    for (int e = 0; e < count; ++e) {
      const int from = e ? begin[e - 1] : 0, to = begin[e];
      if (from < to) add(expert, {e, false, from, to, work_.place_row[to - 1] >= singles}, many);
    }
    add(shared, {0, true, 0, tokens_, tokens_ > singles}, shared_many);
    return all;
  };
  // Runs use(served, block, worker) for `products` times the blocks of every expert.
  const auto for_blocks = [&](const std::vector<Served>& all, int products, const auto& use) {
    std::vector<int> ends;
    for (const Served& served : all) ends.push_back((ends.empty() ? 0 : ends.back()) + products * served.blocks);
    pool_.run(ends.back(), [&](int task, int worker) {
      const auto at = std::upper_bound(ends.begin(), ends.end(), task) - ends.begin();
      const Served& served = all[static_cast<std::size_t>(at)];
      use(served, task - (ends[static_cast<std::size_t>(at)] - products * served.blocks), worker);
    });
  };

  // gate and up
  const Input input{x.x, x.row16, x.rows16, work_.place_row, work_.place_row};
  const Input shared_input{x.x, x.row16, x.rows16, work_.place, work_.place};
  for_blocks(served_by(layer.experts.gate_proj, layer.shared_expert.gate_proj, 64, 32), 2,
             [&](const Served& served, int block, int worker) {
               const bool up = block >= served.blocks;
               const MlpWeights& weights = served.shared ? layer.shared_expert : layer.experts;
               const Matrix& all = up ? weights.up_proj : weights.gate_proj;
               const int first = (up ? block - served.blocks : block) * served.block;
               const int last = std::min(first + served.block, all.out);
               if (served.shared)
                 multiply(all, served, shared_input, Tolerance::tolerant, up ? work_.shared_up : work_.shared_gate,
                          first, last, worker);
               else
                 multiply(all.expert(served.expert), served, input, Tolerance::expert_input, up ? work_.up : work_.gate,
                          first, last, worker);
             });

  // gate <- silu(gate) * up, and its integers
  Activations shared{work_.shared_gate, shared_inner, nullptr, nullptr};
  if (shared_integer) {
    shared.row16 = work_.shared_row16.data();
    shared.rows16 = &work_.shared16;
    shared.rows16->rows = tokens_;
    shared.rows16->cols = shared_inner;
  }
  work_.many16.rows = pairs;
  work_.many16.cols = inner;
  const int pair_blocks = ceil_div(pairs, row_block);
  pool_.run(pair_blocks + ceil_div(tokens_, row_block), [&](int task, int) {
    if (task >= pair_blocks) {
      const int first = (task - pair_blocks) * row_block, rows = std::min(row_block, tokens_ - first);
      float* gate = row(work_.shared_gate, first, shared_inner);
      kernels_.vector.silu_multiply(gate, row(work_.shared_up, first, shared_inner), gate,
                                    static_cast<std::size_t>(rows) * static_cast<std::size_t>(shared_inner));
      return linear_.quantize(shared, first, rows);
    }
    const int first = task * row_block, last = std::min(first + row_block, pairs);
    for (int place = first; place < last; ++place) {
      float* gate = row(work_.gate, place, inner);
      kernels_.vector.silu_multiply(gate, row(work_.up, place, inner), gate, static_cast<std::size_t>(inner));
      if (!integer) continue;
      if (work_.place_row[place] < singles) {
        Row16& to = work_.inner16[static_cast<std::size_t>(work_.place_pair[place])];
        to.cols = inner;
        kernels_.matrix.quantize16(gate, &to);
      } else {
        kernels_.matrix.quantize_rows(gate, 1, inner, &work_.many16, place);
      }
    }
  });

  // down: every expert's output by itself, the shared one's in its place in `mixed`
  const Input second{work_.gate, work_.inner16.data(), integer ? &work_.many16 : nullptr, work_.place_pair,
                     work_.place};
  const Input shared_second{shared.x, shared.row16, shared.rows16, work_.place, work_.place};
  for_blocks(served_by(layer.experts.down_proj, layer.shared_expert.down_proj, 256, 32), 1,
             [&](const Served& served, int block, int worker) {
               const Matrix& all = (served.shared ? layer.shared_expert : layer.experts).down_proj;
               const int first = block * served.block, last = std::min(first + served.block, all.out);
               if (served.shared)
                 multiply(all, served, shared_second, Tolerance::tolerant, work_.mixed, first, last, worker);
               else
                 multiply(all.expert(served.expert), served, second, Tolerance::tolerant, work_.pair_out, first, last,
                          worker);
             });

  // their sum
  for_rows(tokens_, [&](int first, int rows) {
    for (int t = first; t < first + rows; ++t) {
      float* y = row(work_.mixed, t, hidden);
      const float factor = work_.shared_factor[t];
      for (int i = 0; i < hidden; ++i) y[i] *= factor;
      for (int k = 0; k < chosen; ++k) {
        const int pair = t * chosen + k;
        kernels_.vector.add_scaled(y, row(work_.pair_out, work_.pair_place[pair], hidden), work_.pair_weight[pair],
                                   static_cast<std::size_t>(hidden));
      }
    }
  });
}

}  // namespace tqkv::cpu
