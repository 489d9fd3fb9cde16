// Every byte in which the codecs on MLX and the scalar codecs differ is a tie: the exact number lies between two that
// can be stored, up to the rounding of f32.
#include "ties.h"

#include <doctest/doctest.h>

#include <cmath>

#include "codec/rotation.h"
#include "codec/side_codec.h"
#include "kernel_inputs.h"
#include "runtime/mlx/codec.h"
#include "runtime/mlx/device.h"
#include "tie_vectors.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

SideFormat affine_of(SideFormat::Kind kind, int bits, int group) {
  SideFormat format;
  format.kind = kind;
  format.bits = bits;
  format.group = group;
  return format;
}

// A GPU takes what is below the normal numbers of f32 for 0.
float smallest() {
  return tqkv::mlx::on_processor() ? 0.0f : 1e-30f;
}

void encode_both(const SideFormat& format, int dim, const std::vector<float>& x, Ties& ties) {
  const int count = static_cast<int>(x.size()) / dim;
  const codec::SideCodec scalar = codec::side_codec(format, dim);
  const tqkv::mlx::Codec own(format, 1, dim);
  const mx::array bytes = own.to_bytes(own.encode(mx::array(x.begin(), {1, count, dim}, mx::float32)));
  std::vector<std::byte> expected(scalar.vector_bytes());
  for (int i = 0; i < count; ++i) {
    const auto one = std::span(x).subspan(static_cast<std::size_t>(i) * static_cast<std::size_t>(dim),
                                          static_cast<std::size_t>(dim));
    codec::encode(scalar, one, expected.data(), expected.data() + scalar.code_bytes);
    compare(format, one, expected.data(), bytes.data<std::byte>() + static_cast<std::size_t>(i) * expected.size(),
            ties);
  }
}

}  // namespace

TEST_CASE("turboquant on MLX differs from the scalar codec where numbers tie and nowhere else") {
  for (const int bits : {2, 3, 4, 5}) {
    for (const int dim : {64, 128, 256}) {
      const std::vector<float> x = all_kinds(dim, bits, smallest()).values();
      Ties ties;
      for (const KvScalar scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best})
        encode_both(side_of(bits, scalar), dim, x, ties);
      report(side_of(bits).describe() + ", " + std::to_string(dim) + " channels", ties);
    }
  }
}

TEST_CASE("of vectors that are not made to tie, one in a thousand does") {
  constexpr int dim = 256;
  const std::vector<float> x = normal_numbers(3000 * dim, 8);
  Ties ties;
  for (const int bits : {2, 3, 4, 5}) encode_both(side_of(bits), dim, x, ties);
  report("normal numbers", ties);
  CHECK(ties.bytes <= 12);
}

TEST_CASE("affine and plain vectors have the same bytes on MLX to the last one") {
  if (!tqkv::mlx::on_processor()) return;  // MLX's kernels for GPUs divide in another way
  for (const int dim : {128, 256}) {
    const std::vector<float> x = all_kinds(dim, 3, smallest()).values();
    for (const auto kind : {SideFormat::Kind::affine, SideFormat::Kind::rotated_affine}) {
      for (const int bits : {2, 3, 4, 5, 6, 8}) {
        Ties ties;
        for (const int group : {32, 64, 128}) encode_both(affine_of(kind, bits, group), dim, x, ties);
        report(affine_of(kind, bits, 0).describe(), ties);
      }
    }
    Ties ties;
    SideFormat plain;
    encode_both(plain, dim, x, ties);
    plain.bits = 32;
    encode_both(plain, dim, x, ties);
    report("plain", ties);
  }
}

TEST_CASE("the rotation on MLX has the bits of the scalar one") {
  if (!tqkv::mlx::on_processor()) return;  // MLX's kernels for GPUs add in another order
  for (const int dim : {64, 128, 256, 512}) {
    const std::vector<float> x = all_kinds(dim, 4, smallest()).values();
    const int count = static_cast<int>(x.size()) / dim;
    mx::array y = mx::contiguous(
        mx::hadamard_transform(mx::multiply(mx::array(x.begin(), {1, count, dim}, mx::float32), signs_of(1, dim))));
    y.eval();
    const std::vector<float> signs = codec::rotation_signs(7, 3, 0, dim);
    long other = 0;
    for (std::size_t i = 0; i < x.size(); i += signs.size()) {
      std::vector<float> one(x.begin() + static_cast<std::ptrdiff_t>(i),
                             x.begin() + static_cast<std::ptrdiff_t>(i + signs.size()));
      codec::rotate(one, signs);
      for (std::size_t c = 0; c < one.size(); ++c) {
        const float found = y.data<float>()[i + c];
        other += one[c] == found || (std::isnan(one[c]) && std::isnan(found)) ? 0 : 1;
      }
    }
    CAPTURE(dim);
    CHECK(other == 0);
  }
}
