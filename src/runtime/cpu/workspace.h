// Workspace: the memory that one forward pass works in, one allocation. The three kinds of block of a layer take turns
// in the same bytes. An engine keeps the workspaces of its passes, one for each that is under way.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

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

/// Tokens of one block of queries for a group of `group` heads.
int block_tokens(int group);

struct WorkerBuffers {          // one set a thread
  float* matrix = nullptr;      // f32_scratch of the widest matrix
  float* keys = nullptr;        // [tile_keys, space]
  float* values = nullptr;      // [tile_keys, space]
  float* scores = nullptr;      // [queries, tile_keys]
  float* query = nullptr;       // [queries, head_dim]
  float* lifted = nullptr;      // [queries, space], where keys keep signs of S
  float* lift = nullptr;        // lift_scratch
  float* maximum = nullptr;     // [queries] before a range of keys
  float* sums = nullptr;        // [queries, space] of values of one range
  float* lowered = nullptr;     // [queries, head_dim]
  int* visible = nullptr;       // [queries]
  Queries8 query8;              // of `query`, where keys stay packed
  std::byte* packed = nullptr;  // packed_scratch
  float* delta = nullptr;       // chunk_scratch, then [value_head_dim, key_head_dim]
};

struct Workspace {
  WorkSize room;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  Workspace(const ModelConfig& config, const WorkSize& size, const Kernels& kernels);
  /// Bytes that the constructor allocates.
  static std::uint64_t bytes(const ModelConfig& config, const WorkSize& size, const Kernels& kernels);

  // T = rows of the batch, S = single ones of them, H = hidden_size. Buffers that live through a layer:
  float* hidden = nullptr;  // [T, H] residual stream
  float* normed = nullptr;  // [T, H]
  float* mixed = nullptr;   // [T, H] output of a mixer or an MLP
  float* cosine = nullptr;  // [T, rotary/2]
  float* sine = nullptr;
  Rows16 rows16;                   // [T, widest input]
  std::vector<Row16> row16;        // [S] of the widest input
  float* logit_x = nullptr;        // [logit_rows, H]
  std::vector<Row16> logit_row16;  // [logit_rows] of H

  // Full attention:
  float* query_gate = nullptr;  // [T, heads, 2 * head_dim]
  float* query = nullptr;       // [T, heads, head_dim]; the attention's output afterwards
  float* key = nullptr;         // [T, kv heads, head_dim]
  float* value = nullptr;
  float* partial_maximum = nullptr;  // [attention_partials or what the context needs of them, queries]
  float* partial_sum = nullptr;
  float* partial_output = nullptr;  // [the same, queries, head_dim]

  // Gated delta net; conv = conv_dim:
  float* conv_in = nullptr;    // [kernel - 1 + T, conv]
  float* conv_out = nullptr;   // [T, conv]
  float* z = nullptr;          // [T, value_dim]
  float* a = nullptr;          // [T, value heads]; log g afterwards
  float* b = nullptr;          // [T, value heads]; beta afterwards
  float* delta_out = nullptr;  // [T, value_dim]

  // MLP and experts; P = T * experts per token pairs, I = the widest intermediate:
  float* router = nullptr;         // [T, experts]
  int* pair_expert = nullptr;      // [T, per token]
  float* pair_weight = nullptr;    // [T, per token]
  int* pair_place = nullptr;       // [T, per token]: row of the pair in the order of experts
  int* place_pair = nullptr;       // [P]: pair of that row
  int* place_row = nullptr;        // [P]: row of the batch that the pair is of
  int* place = nullptr;            // [P] or [T]: 0, 1, 2, …
  int* expert_begin = nullptr;     // [experts + 1]: rows of each expert
  float* gate = nullptr;           // [P, I]
  float* up = nullptr;             // [P, I]
  Rows16 many16;                   // [P, I]
  std::vector<Row16> inner16;      // [S, per token] of I
  float* pair_out = nullptr;       // [P, H]
  float* shared_factor = nullptr;  // [T]
  float* shared_gate = nullptr;    // [T, I of the shared expert]
  float* shared_up = nullptr;
  Rows16 shared16;                  // [T, I of the shared expert]
  std::vector<Row16> shared_row16;  // [S] of the same

  std::vector<WorkerBuffers> workers;
  std::vector<float> many_logits;  // [logit_rows, vocab], where every row is asked for: not in bytes()

 private:
  friend class Workspaces;
  struct Free {
    void operator()(std::byte* memory) const;
  };
  class Arena;
  void lay_out(Arena& arena, const ModelConfig& config, const WorkSize& size, const Kernels& kernels);
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
