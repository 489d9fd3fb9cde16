// The self-test: whether MLX computes on this machine what plain loops compute. Libraries that were built wrongly have
// given wrong products at some sizes alone, so sizes are those of use. What depends on a step that fails must not run.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "runtime/mlx/mlx.h"

namespace tqkv::mlx {

/// The steps that are tested; a test of the test plants others.
struct Operations {
  /// x [rows, in] by rows of 4-bit weights [out, in] in groups of 64 -> [rows, out]
  std::function<mx::array(const mx::array& x, const mx::array& words, const mx::array& scales, const mx::array& biases)>
      product;
  /// x [rows, in] by w [out, in] -> [rows, out]
  std::function<mx::array(const mx::array& x, const mx::array& w)> plain_product;
  /// q [heads, tokens, dim], k and v [kv heads, tokens, dim], query t sees keys 0..t -> as q
  std::function<mx::array(const mx::array& q, const mx::array& k, const mx::array& v, float scale)> attention;
  /// q, k [tokens, key heads, dim], v [tokens, value heads, dim], log_g and beta [tokens, value heads], from a state of
  /// zeros -> [tokens, value heads, dim]
  std::function<mx::array(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& log_g,
                          const mx::array& beta)>
      delta_rule;
};
/// Those of the engine.
Operations operations();

struct SelfCheck {
  std::string name;
  double difference = 0;  ///< the largest, over the largest value that was expected
  double limit = 0;
  double seconds = 0;
  std::string error = {};                              ///< what it threw instead
  bool passed() const { return difference <= limit; }  // not for NaN
};

/// On the calling thread, which must be one that speaks with MLX.
std::vector<SelfCheck> self_test(const Operations& operations);

/// What a failed check is told as; empty where all passed.
std::string problem_of(const std::vector<SelfCheck>& checks);

/// Runs the self-test where this version of it has not passed on this device before. Throws Error(internal) with the
/// reason where a check fails, unless `force`: then returns the reason. The result is kept in the user's cache folder;
/// where it cannot be, the next run tests again.
std::string require_self_test(bool force);

}  // namespace tqkv::mlx
