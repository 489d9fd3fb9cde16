// The encoding kernel, run by the emulator from the text that Metal gets, against the scalar codec.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "codec/side_codec.h"
#include "emulator/emulator.h"
#include "kernel_inputs.h"
#include "tie_vectors.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

/// Vectors of the scalar codec that the kernel's are not, and the largest difference of scalars in steps of a half.
struct Compared {
  int other_codes = 0, scalar_steps = 0;
};

std::vector<std::byte> bytes_of(const mx::array& x) {
  mx::array whole = mx::contiguous(x);
  whole.eval();
  const auto* first = reinterpret_cast<const std::byte*>(whole.data<std::uint8_t>());
  return {first, first + whole.nbytes()};
}

Compared compare(const SideFormat& format, int kv_heads, int tokens, int dim, const std::vector<float>& x,
                 const kernels::RunKernel& run = emulator::emulated()) {
  const kernels::Payload made =
      kernels::encode(run, format, mx::array(x.begin(), {kv_heads, tokens, dim}, mx::float32), signs_of(kv_heads, dim));
  const std::vector<std::byte> codes = bytes_of(made[0]), scalars = bytes_of(made[1]);
  const codec::SideCodec scalar = codec::side_codec(format, dim);
  std::vector<std::byte> expected(scalar.code_bytes);
  Compared compared;
  for (int head = 0; head < kv_heads; ++head) {
    const std::vector<float> signs = codec::rotation_signs(7, 3, head, dim);
    for (int token = 0; token < tokens; ++token) {
      const auto at = static_cast<std::size_t>(head * tokens + token), size = static_cast<std::size_t>(dim);
      std::vector<float> y(x.begin() + static_cast<std::ptrdiff_t>(at * size),
                           x.begin() + static_cast<std::ptrdiff_t>((at + 1) * size));
      codec::rotate(y, signs);
      std::uint16_t right = 0, found = 0;
      codec::encode(scalar, y, expected.data(), reinterpret_cast<std::byte*>(&right));
      std::memcpy(&found, scalars.data() + at * 2, 2);
      const bool same = std::equal(expected.begin(), expected.end(),
                                   codes.begin() + static_cast<std::ptrdiff_t>(at * expected.size()));
      compared.other_codes += same ? 0 : 1;
      if (same) compared.scalar_steps = std::max(compared.scalar_steps, std::abs(right - found));
    }
  }
  return compared;
}

}  // namespace

TEST_CASE("every width, scalar and size has the codes of the scalar codec") {
  for (const int bits : {2, 3, 4, 5})
    for (const KvScalar scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best})
      for (const int dim : {64, 128, 256}) {
        if (dim != 256 && (bits + static_cast<int>(scalar)) % 3 != 0) continue;
        CAPTURE(bits);
        CAPTURE(name(scalar));
        CAPTURE(dim);
        constexpr int kv_heads = 3, tokens = 37;
        const std::vector<float> x = normal_numbers(static_cast<std::size_t>(kv_heads * tokens * dim), 5);
        const Compared compared = compare(side_of(bits, scalar), kv_heads, tokens, dim, x);
        CHECK(compared.other_codes <= 1);
        CHECK(compared.scalar_steps <= 1);
      }
}

TEST_CASE("one vector, zeros, and a norm beyond the largest half") {
  for (const int bits : {2, 3, 4, 5}) {
    CAPTURE(bits);
    constexpr int dim = 256;
    std::vector<float> x = normal_numbers(4 * dim, 6);
    std::fill(x.begin() + dim, x.begin() + 2 * dim, 0.0f);                            // zeros
    for (int i = 2 * dim; i < 3 * dim; ++i) x[static_cast<std::size_t>(i)] *= 1e5f;   // the scalar is the largest half
    for (int i = 3 * dim; i < 4 * dim; ++i) x[static_cast<std::size_t>(i)] *= 1e-6f;  // it is below the normal ones
    const Compared compared = compare(side_of(bits), 2, 2, dim, x);
    CHECK(compared.other_codes == 0);
    CHECK(compared.scalar_steps <= 1);
    CHECK(compare(side_of(bits), 1, 1, dim, normal_numbers(dim, 8)).other_codes == 0);
  }
}

TEST_CASE("the encoding kernel differs from the scalar codec where numbers tie and nowhere else") {
  constexpr int dim = 256;
  const std::vector<float> signs = codec::rotation_signs(7, 3, 0, dim);
  for (const int bits : {2, 3, 4, 5}) {
    Vectors vectors(dim);
    vectors.add_normal(20, 1, 1.0f);
    for (const float size : {0.0f, 1e-38f, 1e-30f, 1e-22f, 1e-19f, 5000.0f, 1e18f, 1e25f, 1e36f})
      vectors.add_normal(2, 6, size);
    const std::size_t rotated = vectors.values().size();
    vectors.add_thresholds(40, 7, bits);
    std::vector<float> x = vectors.values();
    for (std::size_t at = rotated; at < x.size(); at += dim) codec::unrotate(std::span(x).subspan(at, dim), signs);
    const SideFormat format = side_of(bits);
    const int count = vectors.count();
    const kernels::Payload made = kernels::encode(emulator::emulated(), format,
                                                  mx::array(x.begin(), {1, count, dim}, mx::float32), signs_of(1, dim));
    const mx::array bytes = tqkv::mlx::Codec(format, 1, dim).to_bytes(made);
    const codec::SideCodec scalar = codec::side_codec(format, dim);
    std::vector<std::byte> expected(scalar.vector_bytes());
    Ties ties;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const std::span<float> y = std::span(x).subspan(i * dim, dim);
      codec::rotate(y, signs);
      codec::encode(scalar, y, expected.data(), expected.data() + scalar.code_bytes);
      compare(format, y, expected.data(), bytes.data<std::byte>() + i * expected.size(), ties);
    }
    report("kernel, " + format.describe(), ties);
  }
}
