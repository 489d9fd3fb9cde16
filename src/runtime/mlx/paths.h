// Paths: which step runs in a kernel of our own, which in MLX's operations, and why.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/mlx/kernels/kernels.h"

namespace tqkv::mlx {

/// What runs the kernels of one attention layer; null: MLX's operations.
struct LayerKernels {
  RunKernel attend, encode_keys, encode_values;
};

class Paths {
 public:
  /// `run` null: no kernel is used, for the reason `why`.
  Paths(RunKernel run, std::string why);
  Paths(Paths&& other) noexcept : run_(std::move(other.run_)), why_(std::move(other.why_)) {}  // before it chose
  /// The kernels for a layer of this shape. Each pair of formats is tested once, before its first use, on the thread
  /// that speaks with MLX; a kernel that fails is off, and warnings() say so.
  LayerKernels choose(const KernelShape& shape);
  /// A step that was taken another way than before: how it runs, for steps().
  void tell(const std::string& step, std::string how);
  /// (step, how it runs), of what was chosen so far.
  std::vector<std::pair<std::string, std::string>> steps() const;
  std::vector<std::string> warnings() const;

 private:
  struct Choice {
    bool attend = false, encode_keys = false, encode_values = false;
  };
  Choice tested(const KernelShape& shape);

  RunKernel run_;
  std::string why_;
  mutable std::mutex mutex_;  // of what follows
  std::map<std::string, Choice> choices_;
  std::map<std::string, std::string> steps_;
  std::vector<std::string> warnings_;
};

}  // namespace tqkv::mlx
