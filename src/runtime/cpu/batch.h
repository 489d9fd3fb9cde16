// Batch: the rows of one forward pass. A row is a token; the rows of a session that lie one behind the other are a
// segment. How a row is computed follows from its segment alone (docs/architecture.md), so that it has the same bits in
// any company. Segments are put in an order in which rows that are computed alike lie together, which are the runs.
#pragma once
#include <span>
#include <vector>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/state.h"
#include "tqkv/engine.h"

namespace tqkv::cpu {

/// Tokens that one session adds, one piece of them.
struct Segment {
  CpuState* state = nullptr;
  std::span<const int> ids;
  int position = 0;  // of the first one
  Observer* observer = nullptr;
  CpuSnapshot* keep = nullptr;  // becomes the state behind the last token, layer by layer
  int first = 0;                // row of the batch

  int rows() const { return static_cast<int>(ids.size()); }
  int last() const { return first + rows() - 1; }
};

/// To how many bits a product's input may be rounded in prompts; the format of the session says how many that are.
enum class Tolerance { none, expert_input, tolerant };

/// Rows first..first+count-1, which are computed alike.
struct Run {
  int first = 0, count = 0;
  bool single = false;  // segments of one row: 16-bit activations, and kernels that read weights once a row
  ActivationBits bits;  // of the others
  Additions additions = Additions::along_rows;

  Planes planes(Tolerance tolerance) const {
    const int taken = tolerance == Tolerance::none           ? 16
                      : tolerance == Tolerance::expert_input ? bits.expert_input
                                                             : bits.tolerant;
    return taken == 8 ? Planes::high : Planes::both;
  }
  bool like(const Run& other) const {
    return single == other.single && bits.expert_input == other.bits.expert_input &&
           bits.tolerant == other.bits.tolerant && additions == other.additions;
  }
};

/// In f32, how the rows of one segment that meet a matrix are added up.
inline Additions additions_of(int rows) {
  return rows <= 3 ? Additions::along_rows : Additions::by_tile;
}

class Batch {
 public:
  /// Puts the segments in order; each has a row or more.
  explicit Batch(std::vector<Segment> segments);
  int rows() const { return rows_; }
  /// Rows 0..singles()-1 are segments of one row.
  int singles() const { return singles_; }
  std::span<const Segment> segments() const { return segments_; }
  std::span<const Run> runs() const { return runs_; }
  const Segment& segment_of(int row) const { return segments_[static_cast<std::size_t>(segment_of_[at(row)])]; }
  /// The one that begins at `position` of a session.
  const Segment& segment_of(const CpuState& state, int position) const;
  /// Segments of one session are one sequence, in the order of their tokens: what looks at the past goes by it.
  std::span<const std::vector<int>> sequences() const { return sequences_; }
  const Run& run_of(int row) const { return runs_[static_cast<std::size_t>(run_of_[at(row)])]; }
  int id_of(int row) const { return segment_of(row).ids[at(row - segment_of(row).first)]; }
  int position_of(int row) const { return segment_of(row).position + row - segment_of(row).first; }

 private:
  static std::size_t at(int row) { return static_cast<std::size_t>(row); }

  std::vector<Segment> segments_;
  std::vector<Run> runs_;
  std::vector<std::vector<int>> sequences_;
  std::vector<int> segment_of_, run_of_;  // [rows]
  int rows_ = 0, singles_ = 0;
};

}  // namespace tqkv::cpu
