#include "runtime/no_mlx.h"

namespace tqkv {

const DeviceKind& mlx_kind() {
  static const DeviceKind kind = {
      .name = "mlx",
      .missing = [] { return std::string("this version has no engine for Apple GPUs through MLX; use cpu"); }};
  return kind;
}

}  // namespace tqkv
