// Routed experts and a shared one. Pairs of a row and an expert are sorted by expert, so that each expert's weights are
// read once for all its rows; the shared expert beside them serves every row, in buffers of its own.
#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/cpu/layers.h"
#include "runtime/cpu/linear.h"
#include "runtime/cpu/vector_rows.h"

namespace tqkv::cpu {
namespace {

// The best experts of a row and their weights. Ties go to the lower expert.
void choose(const Pass& pass, int row) {
  const ModelConfig& config = pass.config();
  float *p = pass.work.router.row(row), *weight = pass.work.chosen_weight.row(row);
  int* expert = pass.work.chosen.row(row);
  pass.vector().softmax(p, pass.work.router.sub(row, 1).size());
  float total = 0;
  for (int k = 0; k < config.num_experts_per_tok; ++k) {
    const auto best = static_cast<int>(std::max_element(p, p + config.num_experts) - p);
    expert[k] = best;
    weight[k] = p[best];
    total += p[best];
    p[best] = -1.0f;
  }
  if (config.norm_topk_prob)
    for (int k = 0; k < config.num_experts_per_tok; ++k) weight[k] /= total;
}

// Router in f32: softmax over all experts, the best few, renormalised; and the shared expert's factor.
void route(const Pass& pass, const LayerWeights& layer) {
  Workspace& work = pass.work;
  multiply(pass,
           {{.w = layer.router, .y = work.router, .exact = true},
            {.w = layer.shared_expert_gate, .y = work.shared_factor, .exact = true}},
           Activations{work.normed});
  for_rows(pass, [&](int row) {
    choose(pass, row);
    float& factor = work.shared_factor.at(row, 0);
    factor = 1.0f / (1.0f + std::exp(-factor));
  });
}

// Pairs of an expert lie in the order of rows, so that those computed alike lie together.
void sort_by_expert(const Pass& pass) {
  ExpertOrder& order = pass.work.order;
  const int count = pass.config().num_experts;
  const auto expert_of = pass.work.chosen.first(pass.rows()).span();  // of a pair
  std::fill_n(order.end, count + 1, 0);
  for (const int expert : expert_of) ++order.end[expert + 1];
  for (int e = 0; e < count; ++e) order.end[e + 1] += order.end[e];  // where expert e + 1 begins
  int pair = 0;
  for (const int expert : expert_of) {  // which moves to its end
    const int place = order.end[expert]++;
    order.place_of[pair] = place;
    order.pair_at[place] = pair;
    order.row_at[place] = pair / pass.config().num_experts_per_tok;
    order.counted[place] = place;
    ++pair;
  }
}

/// The input of experts' products, and for each of their places which row of it to take: in `row16` the `one`, in
/// floats and `rows16` the `many`.
struct ExpertInput {
  Activations x;
  const int *one, *many;
};

/// Products of all routed experts, or of the shared one, that share their input; outputs [places, w.out].
struct ExpertProducts {
  std::vector<Product> products;  // of matrices of the same shape
  ExpertInput input;
  int block;  // rows of a matrix in one task, where prompts are among the rows served
};

/// The places begin..end-1 that one expert serves.
struct Served {
  const ExpertProducts* of;
  int expert;                // -1: the shared one, whose places are the rows of the batch
  int begin, end, last_row;  // and the row of the last one
  int block = 0, tasks = 0;  // rows of a matrix in one task, and tasks of all products

  bool shared() const { return expert < 0; }
};

// Rows first..last-1 of one product of an expert, for the places that it serves, on the calling thread.
void multiply_served(const Pass& pass, const Served& served, const Product& product, int first, int last, int worker) {
  const MatrixKernels& kernels = pass.matrix();
  const ExpertInput& input = served.of->input;
  const Matrix w = served.shared() ? product.w : product.w.expert(served.expert);
  const bool integers = input.x.rows16 && w.quantized();
  const auto row_at = [&](int place) { return served.shared() ? place : pass.work.order.row_at[place]; };
  for (int place = served.begin; place < served.end;) {
    const Run& run = pass.batch.run_of(row_at(place));
    // In integers up to the end of the run; in floats up to that of the segment, unless rows are single.
    const bool whole_run = integers || run.single;
    const int end_row = whole_run ? run.first + run.count : pass.batch.segment_of(row_at(place)).last() + 1;
    int end = place + 1;
    while (end < served.end && row_at(end) < end_row) ++end;
    const int rows = end - place;
    float* y = product.y.row(place) + first;
    const auto stride = product.y.stride;
    const int* many = input.many + place;
    if (integers && run.single)
      kernels.multiply16(w, first, last, input.x.row16, input.one + place, rows, y, stride);
    else if (integers)
      kernels.multiply_rows(w, first, last, *input.x.rows16, run.planes(product.tolerance), many, rows, y, stride);
    else
      kernels.multiply_f32(w, first, last, input.x.x.data, input.x.x.stride, many, rows,
                           run.single ? Additions::along_rows : additions_of(rows), y, stride,
                           pass.work.worker(worker).matrix);
    place = end;
  }
}

// Every expert that serves a row, the shared one last.
std::vector<Served> served_by(const Pass& pass, const ExpertProducts& routed, const ExpertProducts& shared) {
  const ExpertOrder& order = pass.work.order;
  std::vector<Served> all;
  const auto add = [&](Served served) {
    const Matrix& w = served.of->products.front().w;
    served.block = served.last_row >= pass.batch.singles() ? served.of->block : rows_per_task(w);
    served.tasks = static_cast<int>(served.of->products.size()) * ceil_div(w.out, served.block);
    all.push_back(served);
  };
  for (int e = 0; e < pass.config().num_experts; ++e)
    if (order.begin(e) < order.end[e]) add({&routed, e, order.begin(e), order.end[e], order.row_at[order.end[e] - 1]});
  add({&shared, -1, 0, pass.rows(), pass.rows() - 1});
  return all;
}

// All products of all experts in one parallel region.
void multiply_experts(const Pass& pass, const ExpertProducts& routed, const ExpertProducts& shared) {
  const std::vector<Served> all = served_by(pass, routed, shared);
  std::vector<int> ends;  // of each one's tasks
  ends.reserve(all.size());
  for (const Served& served : all) ends.push_back((ends.empty() ? 0 : ends.back()) + served.tasks);
  pass.pool().run(ends.back(), [&](int task, int worker) {
    const auto at = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), task) - ends.begin());
    const Served& served = all[at];
    const int own = task - (ends[at] - served.tasks);
    const int blocks = served.tasks / static_cast<int>(served.of->products.size());  // of one product
    const Product& product = served.of->products[static_cast<std::size_t>(own / blocks)];
    const int first = own % blocks * served.block;
    multiply_served(pass, served, product, first, std::min(first + served.block, product.w.out), worker);
  });
}

// gate <- silu(gate) * up at one place, and its integers: by pair for single rows, else by place.
void activate_pair(const Pass& pass, int place) {
  Workspace& work = pass.work;
  const Rows<float> gate = work.gate.sub(place, 1);
  silu_multiply(pass.vector(), gate, work.up.sub(place, 1), gate);
  if (!in_integers(pass, gate.columns)) return;
  if (work.order.row_at[place] < pass.batch.singles()) {
    Row16& to = work.inner_row16[static_cast<std::size_t>(work.order.pair_at[place])];
    to.cols = gate.columns;
    pass.matrix().quantize16(gate.data, &to);
  } else {
    pass.matrix().quantize_rows(gate.data, 1, gate.columns, &work.inner_rows16, place);
  }
}

// The same for every pair and for the shared expert's rows.
void activate(const Pass& pass, int pairs, const Activations& shared) {
  Workspace& work = pass.work;
  work.inner_rows16.rows = pairs;
  work.inner_rows16.cols = work.gate.columns;
  const int pair_blocks = ceil_div(pairs, row_block);
  pass.pool().run(pair_blocks + ceil_div(pass.rows(), row_block), [&](int task, int) {
    if (task < pair_blocks) {
      const int first = task * row_block, last = std::min(first + row_block, pairs);
      for (int place = first; place < last; ++place) activate_pair(pass, place);
      return;
    }
    const int first = (task - pair_blocks) * row_block, rows = std::min(row_block, pass.rows() - first);
    const Rows<float> gate = work.shared_gate.sub(first, rows);
    silu_multiply(pass.vector(), gate, work.shared_up.sub(first, rows), gate);
    quantize(pass, shared, first, rows);
  });
}

// The sum of a row's experts; mixed has the shared one's output.
void add_up(const Pass& pass, int row) {
  Workspace& work = pass.work;
  const int chosen = work.chosen.columns;
  float* y = work.mixed.row(row);
  const float factor = work.shared_factor.at(row, 0);
  for (int i = 0; i < work.mixed.columns; ++i) y[i] *= factor;
  for (int k = 0; k < chosen; ++k) {
    const Rows<float> out = work.expert_out.sub(work.order.place_of[row * chosen + k], 1);
    pass.vector().add_scaled(y, out.data, work.chosen_weight.at(row, k), out.size());
  }
}

}  // namespace

void experts(const Pass& pass, int index, const LayerWeights& layer) {
  Workspace& work = pass.work;
  const ExpertOrder& order = work.order;
  const MlpWeights &routed = layer.experts, &shared = layer.shared_expert;
  const auto chosen = work.chosen.first(pass.rows()).span();
  route(pass, layer);
  pass.engine.weight_check().experts(index, chosen);
  sort_by_expert(pass);

  const Activations x = activations(pass, work.normed);
  multiply_experts(pass,
                   {.products = {{routed.gate_proj, work.gate, Tolerance::expert_input},
                                 {routed.up_proj, work.up, Tolerance::expert_input}},
                    .input = {x, order.row_at, order.row_at},
                    .block = 64},
                   {.products = {{shared.gate_proj, work.shared_gate, Tolerance::tolerant},
                                 {shared.up_proj, work.shared_up, Tolerance::tolerant}},
                    .input = {x, order.counted, order.counted},
                    .block = 32});

  const Activations shared_inner = with_room(pass, work.shared_gate, work.shared_rows16, work.shared_row16);
  activate(pass, static_cast<int>(chosen.size()), shared_inner);
  Activations inner{work.gate};
  if (in_integers(pass, work.gate.columns)) inner = {work.gate, work.inner_row16.data(), &work.inner_rows16};

  multiply_experts(pass,
                   {.products = {{routed.down_proj, work.expert_out, Tolerance::tolerant}},
                    .input = {inner, order.pair_at, order.counted},
                    .block = 256},
                   {.products = {{shared.down_proj, work.mixed, Tolerance::tolerant}},
                    .input = {shared_inner, order.counted, order.counted},
                    .block = 32});
  for_rows(pass, [&](int row) { add_up(pass, row); });
}

}  // namespace tqkv::cpu
