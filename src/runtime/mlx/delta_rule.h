// The gated delta rule over tokens, in float32.
#pragma once
#include "runtime/mlx/mlx.h"

namespace tqkv::mlx {

/// q, k [tokens, key heads, key dim], v [tokens, value heads, value dim], log_g and beta [tokens, value heads]; `state`
/// [value heads, value dim, key dim] gets the tokens. Returns [tokens, value heads, value dim].
mx::array delta_rule(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& log_g,
                     const mx::array& beta, mx::array& state);

}  // namespace tqkv::mlx
