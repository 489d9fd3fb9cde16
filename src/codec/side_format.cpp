#include <fmt/format.h>

#include "tqkv/kv_format.h"

namespace tqkv {

std::string_view name(KvScalar scalar) {
  switch (scalar) {
    case KvScalar::norm:
      return "norm";
    case KvScalar::corrected:
      return "corrected";
    case KvScalar::unbiased:
      return "unbiased";
    case KvScalar::best:
      return "best";
  }
  return "norm";
}

std::string SideFormat::describe() const {
  switch (kind) {
    case Kind::plain:
      return bits == 16 ? "bf16" : bits == 32 ? "f32" : fmt::format("plain {} bit", bits);
    case Kind::affine:
      return fmt::format("affine {} bit, group {}", bits, group);
    case Kind::rotated_affine:
      return fmt::format("rotated affine {} bit, group {}", bits, group);
    case Kind::turboquant:
      return fmt::format("turboquant {} bit, scalar {}", bits, name(scalar));
  }
  return "unknown";
}

}  // namespace tqkv
