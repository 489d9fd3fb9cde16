#include "runtime/no_cuda.h"

namespace tqkv {

const DeviceKind& cuda_kind() {
  static const DeviceKind kind = {.name = "cuda", .several = true, .missing = [] {
                                    return std::string("this version has no engine for NVIDIA cards; use cpu");
                                  }};
  return kind;
}

}  // namespace tqkv
