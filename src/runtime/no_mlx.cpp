#include "runtime/no_mlx.h"

namespace tqkv {

const DeviceKind& mlx_kind() {
  static const DeviceKind kind = {
      "mlx",   false,
      {},      [] { return std::string("this version has no engine for Apple GPUs through MLX; use cpu"); },
      nullptr, nullptr,
      nullptr, nullptr};
  return kind;
}

}  // namespace tqkv
