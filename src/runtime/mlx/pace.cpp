#include "runtime/mlx/pace.h"

#include <algorithm>
#include <utility>

#include "base/stopwatch.h"

namespace tqkv::mlx {
namespace {

constexpr double longest = 0.3;  // seconds of one evaluation
constexpr int most_together = 64;

}  // namespace

int Pace::together(int blocks, double seconds) {
  if (seconds <= 0) return most_together;
  return static_cast<int>(std::clamp(longest * blocks / seconds, 1.0, static_cast<double>(most_together)));
}

void Pace::add(const mx::array& block) {
  blocks_.push_back(block);
  if (static_cast<int>(blocks_.size()) >= together_) finish();
}

void Pace::finish() {
  if (blocks_.empty()) return;
  const Stopwatch watch;
  const std::vector<mx::array> blocks = std::exchange(blocks_, {});
  mx::eval(blocks);
  together_ = together(static_cast<int>(blocks.size()), watch.seconds());
}

}  // namespace tqkv::mlx
