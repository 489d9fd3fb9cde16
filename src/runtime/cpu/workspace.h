// Workspace: the memory that one forward pass works in, one allocation: RunState (model/model.h), and what the CPU
// needs besides. The three kinds of block of a layer take turns in the same bytes. An engine keeps the workspaces of
// its passes, one for each that is under way.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "model/model.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/scratch.h"
#include "tqkv/engine.h"
#include "tqkv/model_config.h"

namespace tqkv::cpu {

inline constexpr int tile_keys = 64;           // keys and values decoded at a time
inline constexpr int block_queries = 64;       // queries of one attention task, where the group of heads divides it
inline constexpr int attention_partials = 64;  // most (task, span of keys) pairs of a split attention
inline constexpr int span_keys = 1024;         // fewest keys of a span
inline constexpr int row_block = 16;           // rows of one task of an element-wise operation

inline int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}
/// Tokens of one block of queries for a group of `group` heads.
int block_tokens(int group);

struct WorkerBuffers {          // one set a thread; space = WorkSize::space
  float* matrix = nullptr;      // f32_scratch of the widest matrix
  Rows<float> keys, values;     // [tile_keys, space]
  Rows<float> scores;           // [queries, tile_keys]
  Rows<float> query;            // [queries, head_dim]
  Rows<float> lifted;           // [queries, space], where keys keep signs of S
  float* lift = nullptr;        // lift_scratch
  float* maximum = nullptr;     // [queries] before a range of keys
  Rows<float> sums;             // [queries, space] of values of one range
  Rows<float> lowered;          // [queries, head_dim]
  int* visible = nullptr;       // [queries]
  Queries8 query8;              // of `query`, where keys stay packed
  std::byte* packed = nullptr;  // packed_scratch
  float* delta = nullptr;       // chunk_scratch, then [value_head_dim, key_head_dim]
};

/// The P pairs of a row and an expert that serves it, sorted by expert: what one expert serves lies together, in the
/// order of rows. Pair p is of row p / num_experts_per_tok.
struct ExpertOrder {
  int* end = nullptr;       // [experts + 1]: the places of expert e end before end[e], where those of e + 1 begin
  int* place_of = nullptr;  // [P]: the place of a pair
  int* pair_at = nullptr;   // [P]: the pair at a place
  int* row_at = nullptr;    // [P]: its row of the batch
  int* counted = nullptr;   // [P]: 0, 1, 2, …

  int begin(int expert) const { return expert > 0 ? end[expert - 1] : 0; }
};

struct Workspace : RunState {
  WorkSize room;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  Workspace(const ModelConfig& config, const WorkSize& size, const Kernels& kernels);
  /// Bytes that the constructor allocates.
  static std::uint64_t bytes(const ModelConfig& config, const WorkSize& size, const Kernels& kernels);
  WorkerBuffers& worker(int index) { return workers[static_cast<std::size_t>(index)]; }

  // Inputs of products in integers; T, P, H and I as in RunState, S = rows that are their session's only one:
  Rows16 rows16;                    // [T, widest input]
  std::vector<Row16> row16;         // [S] of the widest input
  Rows16 inner_rows16;              // [P, I]
  std::vector<Row16> inner_row16;   // [S * num_experts_per_tok] of I
  Rows16 shared_rows16;             // [T, I of the shared expert]
  std::vector<Row16> shared_row16;  // [S] of the same

  // Parts of attention, over one span of keys each: attention_partials of them, or what the context needs.
  Rows<float> partial_maximum, partial_sum;  // [parts, queries]
  Rows<float> partial_output;                // [parts * queries, head_dim]

  ExpertOrder order;

  // Logits:
  Rows<float> logit_x;             // [logit_rows, H]
  std::vector<Row16> logit_row16;  // [logit_rows] of H
  std::vector<float> many_logits;  // [logit_rows, vocab], where every row is asked for: not in bytes()

  std::vector<WorkerBuffers> workers;

 private:
  friend class Workspaces;
  struct Free {
    void operator()(std::byte* memory) const;
  };
  class Arena;
  void lay_out(Arena& arena, const ModelConfig& config, const WorkSize& size, const Kernels& kernels);
  void lay_out_attention(Arena& arena, const ModelConfig& config, const WorkSize& size);
  void lay_out_delta(Arena& arena, const ModelConfig& config, const WorkSize& size);
  void lay_out_mlp(Arena& arena, const ModelConfig& config, const WorkSize& size);
  Workspace() = default;
  std::unique_ptr<std::byte[], Free> memory_;
  WorkSize touched_{Precision::fast, 0, 0, 0, 0, 0};  // memory is taken when it is first touched
};

/// The workspaces of an engine. A pass borrows one; the next pass finds it again.
class Workspaces {
 public:
  Workspaces(const ModelConfig& config, const Kernels& kernels) : config_(config), kernels_(kernels) {}
  class Lease {
   public:
    Lease(Workspaces& owner, std::unique_ptr<Workspace> work) : owner_(owner), work_(std::move(work)) {}
    ~Lease() { owner_.give_back(std::move(work_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() const { return *work_; }

   private:
    Workspaces& owner_;
    std::unique_ptr<Workspace> work_;
  };
  /// One with room for `room`, of which a pass touches `used`.
  Lease borrow(const WorkSize& room, const WorkSize& used);
  /// Bytes that a pass would take beyond those that were touched before.
  std::uint64_t growth(const WorkSize& used) const;
  /// Of all that are there and in no pass.
  std::uint64_t bytes() const;

 private:
  void give_back(std::unique_ptr<Workspace> work);

  const ModelConfig& config_;
  const Kernels& kernels_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

/// Room for either.
WorkSize larger(const WorkSize& a, const WorkSize& b);

}  // namespace tqkv::cpu
