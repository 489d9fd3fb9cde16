#include "runtime/mlx_kind.h"

namespace tqkv {

const DeviceKind& mlx_kind() {
  static const DeviceKind kind = {
      .name = "mlx", .missing = [] {
        return std::string(
            "this program was built without MLX: run scripts/install-mlx, then build again with -DTQKV_MLX=ON; or use "
            "cpu");
      }};
  return kind;
}

}  // namespace tqkv
