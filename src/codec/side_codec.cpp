#include "codec/side_codec.h"

#include <cassert>

#include <fmt/format.h>

#include "codec/method.h"
#include "tqkv/error.h"

namespace tqkv::codec {

SideCodec side_codec(const SideFormat& format, int dim, const SignMatrix* matrix) {
  SideCodec codec;
  codec.format = format;
  codec.dim = codec.direct = dim;
  codec.matrix = matrix;
  if (dim <= 0 || dim > max_dim) refuse_dim(codec, fmt::format("1 to {}", max_dim));
  method(format.kind).plan(codec);
  return codec;
}

void encode(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars) {
  assert(x.size() == static_cast<std::size_t>(codec.dim));
  method(codec.format.kind).encode(codec, x, codes, scalars);
}

void decode(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out) {
  assert(out.size() == static_cast<std::size_t>(codec.space()));
  method(codec.format.kind).decode(codec, codes, scalars, out);
}

}  // namespace tqkv::codec
