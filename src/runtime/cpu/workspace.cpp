#include "runtime/cpu/workspace.h"

#include <algorithm>
#include <new>

#include "runtime/cpu/lift.h"

namespace tqkv::cpu {

// Hands out aligned pieces of one block; without a block it only counts.
class Workspace::Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}
  template <class T>
  T* take(std::size_t count) {
    const std::size_t at = offset_;
    offset_ += (count * sizeof(T) + 63) / 64 * 64;
    largest_ = std::max(largest_, offset_);
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  template <class T>
  Rows<T> rows(int count, int columns) {
    Rows<T> out(nullptr, count, columns);
    out.data = take<T>(out.size());
    return out;
  }
  std::size_t mark() const { return offset_; }
  void rewind(std::size_t mark) { offset_ = mark; }
  std::size_t largest() const { return largest_; }

 private:
  std::byte* base_;
  std::size_t offset_ = 0;
  std::size_t largest_ = 0;
};

void Workspace::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{64});
}

int block_tokens(int group) {
  return std::max(1, block_queries / group);
}

namespace {

std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

// Of one block.
int most_queries(const ModelConfig& c) {
  const int group = c.num_attention_heads / c.num_key_value_heads;
  return block_tokens(group) * group;
}

/// Most partial results of attention at a time: a task for each block of queries and head, in as many spans of keys as
/// the context has.
int partials_of(const ModelConfig& c, const WorkSize& work) {
  const int blocks = ceil_div(work.chunk, block_tokens(c.num_attention_heads / c.num_key_value_heads));
  const std::int64_t all = std::int64_t{blocks} * c.num_key_value_heads * ceil_div(work.context, span_keys);
  return static_cast<int>(std::min<std::int64_t>(all, attention_partials));
}

template <class Arena>
Rows16 take_rows16(Arena& arena, int rows, int cols) {
  const std::size_t groups = size(rows) * size(cols / Matrix::group + 1);
  Rows16 out;
  out.high = arena.template take<std::int8_t>(size(rows) * size(cols));
  out.low = arena.template take<std::int8_t>(size(rows) * size(cols));
  for (float** scales : {&out.scale, &out.sum, &out.high_scale, &out.high_sum})
    *scales = arena.template take<float>(groups);
  return out;
}

template <class Arena>
std::vector<Row16> take_row16s(Arena& arena, int rows, int cols) {
  std::vector<Row16> all(size(rows));
  for (Row16& out : all) {
    out.cols = cols;
    out.q = arena.template take<std::int16_t>(size(cols));
    out.high = arena.template take<std::int8_t>(size(cols));
    out.low = arena.template take<std::int8_t>(size(cols));
    out.scale = arena.template take<float>(size(cols / Matrix::group + 1));
    out.sum = arena.template take<float>(size(cols / Matrix::group + 1));
  }
  return all;
}

template <class Arena>
WorkerBuffers take_worker(Arena& arena, const ModelConfig& c, const WorkSize& work, const Kernels& kernels,
                          int widest_in) {
  const int space = work.space, queries = most_queries(c);
  WorkerBuffers worker;
  worker.matrix = arena.template take<float>(kernels.matrix.f32_scratch(widest_in));
  worker.keys = arena.template rows<float>(tile_keys, space);
  worker.values = arena.template rows<float>(tile_keys, space);
  worker.scores = arena.template rows<float>(queries, tile_keys);
  worker.query = arena.template rows<float>(queries, c.head_dim);
  worker.lifted = arena.template rows<float>(queries, space);
  worker.lift = arena.template take<float>(lift_scratch(queries, c.head_dim));
  worker.maximum = arena.template take<float>(size(queries));
  worker.sums = arena.template rows<float>(queries, space);
  worker.lowered = arena.template rows<float>(queries, c.head_dim);
  worker.visible = arena.template take<int>(size(queries));
  if (work.precision == Precision::fast) {
    const std::size_t groups = size(c.head_dim / Matrix::group + 1);  // most of one query
    worker.query8.q = arena.template take<std::byte>(2 * size(queries) * size(c.head_dim));
    worker.query8.scale = arena.template take<float>(size(queries) * groups);
    worker.query8.sum = arena.template take<std::int32_t>(size(queries) * groups);
    worker.packed = arena.template take<std::byte>(kernels.attention.packed_scratch(queries, c.head_dim));
  }
  // And one head's state in f32 behind it, for states that are kept in bf16.
  worker.delta =
      arena.template take<float>(kernels.delta.chunk_scratch(c.linear_key_head_dim, c.linear_value_head_dim) +
                                 size(c.linear_key_head_dim) * size(c.linear_value_head_dim));
  return worker;
}

}  // namespace

void Workspace::lay_out(Arena& arena, const ModelConfig& c, const WorkSize& work, const Kernels& kernels) {
  const bool fast = work.precision == Precision::fast;
  const int tokens = work.chunk;
  const int inner =
      std::max(c.moe() ? c.moe_intermediate_size : c.intermediate_size, c.shared_expert_intermediate_size);
  const int widest_row = std::max({c.hidden_size, c.query_dim(), c.value_dim()});

  hidden = arena.rows<float>(tokens, c.hidden_size);
  normed = arena.rows<float>(tokens, c.hidden_size);
  mixed = arena.rows<float>(tokens, c.hidden_size);
  cosine = arena.rows<float>(tokens, c.rotary_dim / 2);
  sine = arena.rows<float>(tokens, c.rotary_dim / 2);
  logit_x = arena.rows<float>(logit_rows, c.hidden_size);
  if (fast) {
    rows16 = take_rows16(arena, tokens, widest_row);
    row16 = take_row16s(arena, work.singles, widest_row);
    logit_row16 = take_row16s(arena, logit_rows, c.hidden_size);
  }

  const std::size_t layer = arena.mark();
  lay_out_attention(arena, c, work);
  arena.rewind(layer);
  lay_out_delta(arena, c, work);
  arena.rewind(layer);
  lay_out_mlp(arena, c, work);
  arena.rewind(arena.largest());
  workers.clear();
  for (int i = 0; i < work.threads; ++i)
    workers.push_back(take_worker(arena, c, work, kernels, std::max(widest_row, inner)));
}

void Workspace::lay_out_attention(Arena& arena, const ModelConfig& c, const WorkSize& work) {
  const int tokens = work.chunk, queries = most_queries(c), parts = partials_of(c, work);
  query_gate = arena.rows<float>(tokens, 2 * c.query_dim());
  query = arena.rows<float>(tokens, c.query_dim());
  key = arena.rows<float>(tokens, c.kv_dim());
  value = arena.rows<float>(tokens, c.kv_dim());
  partial_maximum = arena.rows<float>(parts, queries);
  partial_sum = arena.rows<float>(parts, queries);
  partial_output = arena.rows<float>(parts * queries, c.head_dim);
}

void Workspace::lay_out_delta(Arena& arena, const ModelConfig& c, const WorkSize& work) {
  const int tokens = work.chunk;
  conv_in = arena.rows<float>(tokens + c.linear_conv_kernel_dim - 1, c.conv_dim());
  conv_out = arena.rows<float>(tokens, c.conv_dim());
  z = arena.rows<float>(tokens, c.value_dim());
  a = arena.rows<float>(tokens, c.linear_num_value_heads);
  b = arena.rows<float>(tokens, c.linear_num_value_heads);
  delta_out = arena.rows<float>(tokens, c.value_dim());
}

void Workspace::lay_out_mlp(Arena& arena, const ModelConfig& c, const WorkSize& work) {
  const bool fast = work.precision == Precision::fast;
  const int tokens = work.chunk, per_token = c.moe() ? c.num_experts_per_tok : 1, pairs = tokens * per_token;
  const int inner = c.moe() ? c.moe_intermediate_size : c.intermediate_size;
  gate = arena.rows<float>(pairs, inner);
  up = arena.rows<float>(pairs, inner);
  if (fast) inner_rows16 = take_rows16(arena, pairs, inner);
  if (fast) inner_row16 = take_row16s(arena, work.singles * per_token, inner);
  if (!c.moe()) return;
  router = arena.rows<float>(tokens, c.num_experts);
  chosen = arena.rows<int>(tokens, per_token);
  chosen_weight = arena.rows<float>(tokens, per_token);
  expert_out = arena.rows<float>(pairs, c.hidden_size);
  order.end = arena.take<int>(size(c.num_experts + 1));
  for (int** list : {&order.place_of, &order.pair_at, &order.row_at, &order.counted})
    *list = arena.take<int>(size(pairs));
  shared_factor = arena.rows<float>(tokens, 1);
  shared_gate = arena.rows<float>(tokens, c.shared_expert_intermediate_size);
  shared_up = arena.rows<float>(tokens, c.shared_expert_intermediate_size);
  if (fast) shared_rows16 = take_rows16(arena, tokens, c.shared_expert_intermediate_size);
  if (fast) shared_row16 = take_row16s(arena, work.singles, c.shared_expert_intermediate_size);
}

std::uint64_t Workspace::bytes(const ModelConfig& config, const WorkSize& size, const Kernels& kernels) {
  Workspace counted;
  Arena arena(nullptr);
  counted.lay_out(arena, config, size, kernels);
  return arena.largest();
}

Workspace::Workspace(const ModelConfig& config, const WorkSize& size, const Kernels& kernels) : room(size) {
  const auto total = bytes(config, size, kernels);
  memory_.reset(new (std::align_val_t{64}) std::byte[total]);
  Arena arena(memory_.get());
  lay_out(arena, config, size, kernels);
}

std::uint64_t scratch_bytes(const ModelConfig& config, const WorkSize& size, const Kernels& kernels) {
  return Workspace::bytes(config, size, kernels) + static_cast<std::uint64_t>(config.vocab_size) * sizeof(float);
}

WorkSize larger(const WorkSize& a, const WorkSize& b) {
  return {a.precision,
          std::max(a.chunk, b.chunk),
          std::max(a.singles, b.singles),
          std::max(a.context, b.context),
          std::max(a.threads, b.threads),
          std::max(a.space, b.space)};
}

namespace {

bool covers(const WorkSize& has, const WorkSize& wanted) {
  return has.chunk >= wanted.chunk && has.singles >= wanted.singles && has.context >= wanted.context &&
         has.threads >= wanted.threads && has.space >= wanted.space;
}

}  // namespace

Workspaces::Lease Workspaces::borrow(const WorkSize& room, const WorkSize& used) {
  std::unique_ptr<Workspace> work;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      work = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!work || !covers(work->room, room)) {
    const WorkSize size = work ? larger(room, work->room) : room;
    work.reset();  // before the larger one is there
    work = std::unique_ptr<Workspace>(new Workspace(config_, size, kernels_));
  }
  work->touched_ = larger(used, work->touched_);
  return {*this, std::move(work)};
}

void Workspaces::give_back(std::unique_ptr<Workspace> work) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(work));
}

std::uint64_t Workspaces::bytes() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& work : free_) sum += Workspace::bytes(config_, work->room, kernels_);
  return sum;
}

std::uint64_t Workspaces::growth(const WorkSize& used) const {
  const std::lock_guard lock(mutex_);
  const WorkSize* touched = free_.empty() ? nullptr : &free_.back()->touched_;
  if (touched && covers(*touched, used)) return 0;
  const std::uint64_t needed = Workspace::bytes(config_, touched ? larger(used, *touched) : used, kernels_);
  const std::uint64_t there =
      touched && touched->chunk > 0 ? Workspace::bytes(config_, *touched, kernels_) : std::uint64_t{0};
  return needed - std::min(needed, there);
}

}  // namespace tqkv::cpu
