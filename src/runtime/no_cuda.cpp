#include "runtime/no_cuda.h"

namespace tqkv {

const DeviceKind& cuda_kind() {
  static const DeviceKind kind = {
      "cuda",  true,    {},      [] { return std::string("this version has no engine for NVIDIA cards; use cpu"); },
      nullptr, nullptr, nullptr, nullptr};
  return kind;
}

}  // namespace tqkv
