// What kernels take from MLX's header of this name, which comes before their text.
#pragma once
#include <metal_stdlib>

using namespace metal;
typedef bfloat bfloat16_t;
typedef half float16_t;

#define MLX_MTL_PRAGMA_UNROLL _Pragma("clang loop unroll(full)")

template <typename U>
struct Limits {
  static constexpr constant U max = metal::numeric_limits<U>::infinity();
  static constexpr constant U finite_min = -metal::numeric_limits<U>::max();
};
