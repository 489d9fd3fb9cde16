#include "runtime/cpu/workspace.h"

#include <algorithm>
#include <new>

#include "runtime/cpu/lift.h"
#include "runtime/cpu/linear.h"

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

/// Most partial results of attention at a time: a task for each block of queries and head, in as many spans of keys as
/// the context has.
int partials_of(const ModelConfig& c, const WorkSize& work) {
  const int blocks = ceil_div(work.chunk, block_tokens(c.num_attention_heads / c.num_key_value_heads));
  const std::int64_t all = std::int64_t{blocks} * c.num_key_value_heads * ceil_div(work.context, span_keys);
  return static_cast<int>(std::min<std::int64_t>(all, attention_partials));
}

template <class Arena>
Rows16 take_rows16(Arena& arena, std::size_t rows, int cols) {
  const std::size_t groups = rows * size(cols / Matrix::group + 1);
  Rows16 out;
  out.high = arena.template take<std::int8_t>(rows * size(cols));
  out.low = arena.template take<std::int8_t>(rows * size(cols));
  for (float** scales : {&out.scale, &out.sum, &out.high_scale, &out.high_sum})
    *scales = arena.template take<float>(groups);
  return out;
}

template <class Arena>
std::vector<Row16> take_row16s(Arena& arena, std::size_t rows, int cols) {
  std::vector<Row16> all(rows);
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

}  // namespace

void Workspace::lay_out(Arena& arena, const ModelConfig& c, const WorkSize& work, const Kernels& kernels) {
  const bool fast = work.precision == Precision::fast;
  const std::size_t t = size(work.chunk);
  const int space = work.space;
  const int inner =
      std::max(c.moe() ? c.moe_intermediate_size : c.intermediate_size, c.shared_expert_intermediate_size);
  const int widest_in = std::max({c.hidden_size, c.query_dim(), c.value_dim(), inner});
  const int widest_row = std::max({c.hidden_size, c.query_dim(), c.value_dim()});
  const std::size_t singles = size(work.singles);
  const int queries =
      block_tokens(c.num_attention_heads / c.num_key_value_heads) * (c.num_attention_heads / c.num_key_value_heads);
  const std::size_t head = size(c.head_dim);
  const int partials = partials_of(c, work);

  hidden = arena.take<float>(t * size(c.hidden_size));
  normed = arena.take<float>(t * size(c.hidden_size));
  mixed = arena.take<float>(t * size(c.hidden_size));
  cosine = arena.take<float>(t * size(c.rotary_dim / 2));
  sine = arena.take<float>(t * size(c.rotary_dim / 2));
  logit_x = arena.take<float>(logit_rows * size(c.hidden_size));
  if (fast) {
    rows16 = take_rows16(arena, t, widest_row);
    row16 = take_row16s(arena, singles, widest_row);
    logit_row16 = take_row16s(arena, logit_rows, c.hidden_size);
  }

  const std::size_t layer = arena.mark();
  query_gate = arena.take<float>(t * 2 * size(c.query_dim()));
  query = arena.take<float>(t * size(c.query_dim()));
  key = arena.take<float>(t * size(c.kv_dim()));
  value = arena.take<float>(t * size(c.kv_dim()));
  partial_maximum = arena.take<float>(size(partials * queries));
  partial_sum = arena.take<float>(size(partials * queries));
  partial_output = arena.take<float>(size(partials * queries) * head);

  arena.rewind(layer);
  conv_in = arena.take<float>((t + size(c.linear_conv_kernel_dim) - 1) * size(c.conv_dim()));
  conv_out = arena.take<float>(t * size(c.conv_dim()));
  z = arena.take<float>(t * size(c.value_dim()));
  a = arena.take<float>(t * size(c.linear_num_value_heads));
  b = arena.take<float>(t * size(c.linear_num_value_heads));
  delta_out = arena.take<float>(t * size(c.value_dim()));

  arena.rewind(layer);
  const std::size_t pairs = t * size(c.moe() ? c.num_experts_per_tok : 1);
  const int expert_inner = c.moe() ? c.moe_intermediate_size : c.intermediate_size;
  gate = arena.take<float>(pairs * size(expert_inner));
  up = arena.take<float>(pairs * size(expert_inner));
  if (fast) many16 = take_rows16(arena, pairs, expert_inner);
  if (c.moe()) {
    router = arena.take<float>(t * size(c.num_experts));
    pair_expert = arena.take<int>(pairs);
    pair_weight = arena.take<float>(pairs);
    pair_place = arena.take<int>(pairs);
    place_pair = arena.take<int>(pairs);
    place_row = arena.take<int>(pairs);
    place = arena.take<int>(pairs);
    expert_begin = arena.take<int>(size(c.num_experts + 1));
    pair_out = arena.take<float>(pairs * size(c.hidden_size));
    shared_factor = arena.take<float>(t);
    shared_gate = arena.take<float>(t * size(c.shared_expert_intermediate_size));
    shared_up = arena.take<float>(t * size(c.shared_expert_intermediate_size));
    if (fast) shared16 = take_rows16(arena, t, c.shared_expert_intermediate_size);
    if (fast) shared_row16 = take_row16s(arena, singles, c.shared_expert_intermediate_size);
  }
  if (fast) inner16 = take_row16s(arena, singles * size(c.moe() ? c.num_experts_per_tok : 1), expert_inner);

  arena.rewind(arena.largest());
  workers.resize(size(work.threads));
  for (auto& worker : workers) {
    worker.matrix = arena.take<float>(kernels.matrix.f32_scratch(widest_in));
    worker.keys = arena.take<float>(tile_keys * size(space));
    worker.values = arena.take<float>(tile_keys * size(space));
    worker.scores = arena.take<float>(size(queries) * tile_keys);
    worker.query = arena.take<float>(size(queries) * head);
    worker.lifted = arena.take<float>(size(queries) * size(space));
    worker.lift = arena.take<float>(lift_scratch(queries, c.head_dim));
    worker.maximum = arena.take<float>(size(queries));
    worker.sums = arena.take<float>(size(queries) * size(space));
    worker.lowered = arena.take<float>(size(queries) * head);
    worker.visible = arena.take<int>(size(queries));
    if (fast) {
      const std::size_t groups = head / Matrix::group + 1;  // most of one query
      worker.query8.q = arena.take<std::byte>(2 * size(queries) * head);
      worker.query8.scale = arena.take<float>(size(queries) * groups);
      worker.query8.sum = arena.take<std::int32_t>(size(queries) * groups);
      worker.packed = arena.take<std::byte>(kernels.attention.packed_scratch(queries, c.head_dim));
    }
    // And one head's state in f32 behind it, for states that are kept in bf16.
    worker.delta = arena.take<float>(kernels.delta.chunk_scratch(c.linear_key_head_dim, c.linear_value_head_dim) +
                                     size(c.linear_key_head_dim) * size(c.linear_value_head_dim));
  }
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
