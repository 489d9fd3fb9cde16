#include "tqkv/side_format.h"
#include "codec/method.h"

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

std::string_view name(Projection projection) {
  return projection == Projection::gaussian ? "gaussian" : "orthogonal";
}

std::string SideFormat::describe() const {
  return codec::method(kind).describe(*this);
}

}  // namespace tqkv
