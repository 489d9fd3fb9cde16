#include "runtime/cpu/work_buffers.h"

#include <algorithm>
#include <new>

#include "runtime/cpu/lift.h"
#include "runtime/cpu/linear.h"

namespace tqkv::cpu {

// Hands out aligned pieces of one block; without a block it only counts.
class WorkBuffers::Arena {
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

void WorkBuffers::Free::operator()(std::byte* memory) const {
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
Row16 take_row16(Arena& arena, int cols) {
  Row16 out;
  out.cols = cols;
  out.q = arena.template take<std::int16_t>(size(cols));
  out.high = arena.template take<std::int8_t>(size(cols));
  out.low = arena.template take<std::int8_t>(size(cols));
  out.scale = arena.template take<float>(size(cols / Matrix::group + 1));
  out.sum = arena.template take<float>(size(cols / Matrix::group + 1));
  return out;
}

}  // namespace

void WorkBuffers::place(Arena& arena, const ModelConfig& c, const WorkSize& work, const Kernels& kernels) {
  const bool fast = work.precision == Precision::fast;
  const std::size_t t = size(work.chunk);
  const int space = work.space;
  const int inner =
      std::max(c.moe() ? c.moe_intermediate_size : c.intermediate_size, c.shared_expert_intermediate_size);
  const int widest_in = std::max({c.hidden_size, c.query_dim(), c.value_dim(), inner});
  const int queries =
      block_tokens(c.num_attention_heads / c.num_key_value_heads) * (c.num_attention_heads / c.num_key_value_heads);
  const std::size_t head = size(c.head_dim);
  const int partials = partials_of(c, work);

  hidden = arena.take<float>(t * size(c.hidden_size));
  normed = arena.take<float>(t * size(c.hidden_size));
  mixed = arena.take<float>(t * size(c.hidden_size));
  cosine = arena.take<float>(t * size(c.rotary_dim / 2));
  sine = arena.take<float>(t * size(c.rotary_dim / 2));
  logits = arena.take<float>(size(c.vocab_size));
  if (fast) {
    rows16 = take_rows16(arena, t, std::max({c.hidden_size, c.query_dim(), c.value_dim()}));
    row16 = take_row16(arena, widest_in);
    logit_row16.resize(logit_rows);
    for (auto& row : logit_row16) row = take_row16(arena, c.hidden_size);
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
    place_token = arena.take<int>(pairs);
    expert_begin = arena.take<int>(size(c.num_experts + 1));
    pair_out = arena.take<float>(pairs * size(c.hidden_size));
    shared_factor = arena.take<float>(t);
    shared_gate = arena.take<float>(t * size(c.shared_expert_intermediate_size));
    shared_up = arena.take<float>(t * size(c.shared_expert_intermediate_size));
    if (fast) shared16 = take_rows16(arena, t, c.shared_expert_intermediate_size);
  }
  if (fast) {
    inner16.resize(size(c.num_experts_per_tok) + 1);
    for (auto& row : inner16) row = take_row16(arena, inner);
  }

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

std::uint64_t WorkBuffers::bytes(const ModelConfig& config, const WorkSize& size, const Kernels& kernels) {
  WorkBuffers counted;
  Arena arena(nullptr);
  counted.place(arena, config, size, kernels);
  return arena.largest();
}

WorkBuffers::WorkBuffers(const ModelConfig& config, const WorkSize& size, const Kernels& kernels) {
  const auto total = bytes(config, size, kernels);
  memory_.reset(new (std::align_val_t{64}) std::byte[total]);
  Arena arena(memory_.get());
  place(arena, config, size, kernels);
}

std::uint64_t scratch_bytes(const ModelConfig& config, const WorkSize& size) {
  return WorkBuffers::bytes(config, size, kernels());
}

}  // namespace tqkv::cpu
