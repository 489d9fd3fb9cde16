// Pace: how many blocks of work are evaluated together. macOS ends what occupies the GPU for longer than a second or
// two, and a block of a long context takes a part of that. Blocks are the same whatever the pace, so no bit depends on
// it.
#pragma once
#include <vector>

#include "runtime/mlx/mlx.h"

namespace tqkv::mlx {

class Pace {
 public:
  /// `block` is evaluated with those before it, once they take as long as one evaluation may.
  void add(const mx::array& block);
  /// Evaluates what was added and waits.
  void finish();
  /// Blocks that are evaluated together, after `blocks` of them took `seconds`.
  static int together(int blocks, double seconds);

 private:
  std::vector<mx::array> blocks_;
  int together_ = 1;
};

}  // namespace tqkv::mlx
