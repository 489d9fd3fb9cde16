// Encoding of turboquant (docs/formats.md, sections 2 and 4). For each vector x:
//
//   y = H (signs * x);  n = |y|;  index[c] = number of thresholds below y[c] sqrt(dim) / n;
//   scalar = n, corrected by the centroids of the indices
//
// A simdgroup has a vector, a lane dim / 32 neighbouring channels of it: the first stages of H are within a lane, the
// others between lanes. A vector of 256 channels reads 1,024 bytes and costs 8 additions and up to 5 comparisons a
// channel.
#include <fmt/format.h>

#include <cmath>

#include "codec/codebook.h"
#include "runtime/mlx/kernels/kernels.h"
#include "runtime/mlx/kernels/text.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

constexpr int lanes = 32;
constexpr int vectors_of_group = 8;

const char* const functions = R"(
// The bits of a lane, with those of its neighbours behind them, as words: of the first lane of each word.
inline void tqkv_store_plane(uint bits, int width, int lane, device uint* words) {
  int lanes = 1;  // that share a word
  while (lanes * width * tqkv_channels < 32) {
    const uint other = simd_shuffle_xor(bits, static_cast<ushort>(lanes));
    if ((lane & lanes) == 0) bits |= other << (lanes * width * tqkv_channels);
    lanes *= 2;
  }
  if (lane % lanes == 0) words[lane / lanes] = bits;
}
)";

const char* const body = R"(
  const int lane = static_cast<int>(thread_index_in_simdgroup);
  const int vector = static_cast<int>(thread_position_in_grid.x) / 32;
  const size_t at = static_cast<size_t>(vector);
  const int head = vector / tokens[0];

  float y[tqkv_channels];
  for (int c = 0; c < tqkv_channels; c++) {
    const int channel = lane * tqkv_channels + c;
    y[c] = x[at * tqkv_dim + channel] * signs[head * tqkv_dim + channel];
  }
  for (int h = 1; h < tqkv_channels; h *= 2) {
    for (int c = 0; c < tqkv_channels; c++) {
      if ((c & h) != 0) continue;
      const float a = y[c];
      const float b = y[c + h];
      y[c] = a + b;
      y[c + h] = a - b;
    }
  }
  for (int apart = 1; apart < 32; apart *= 2) {
    for (int c = 0; c < tqkv_channels; c++) {
      const float other = simd_shuffle_xor(y[c], static_cast<ushort>(apart));
      y[c] = (lane & apart) == 0 ? y[c] + other : other - y[c];
    }
  }
  float largest = 0.0f;
  for (int c = 0; c < tqkv_channels; c++) {
    y[c] *= tqkv_scale;
    largest = max(largest, abs(y[c]));
  }
  // A power of two near the largest channel and 1 over it, so that no square is beyond f32 or below its normal numbers.
  const uint power = min(max(as_type<uint>(simd_max(largest)) & 0x7f800000u, 0x00800000u), 0x7e800000u);
  const float inverse = as_type<float>(0x7f000000u - power);
  float squares = 0.0f;
  for (int c = 0; c < tqkv_channels; c++) {
    y[c] *= inverse;
    squares += y[c] * y[c];
  }
  const float norm = sqrt(simd_sum(squares));
  const float factor = norm > 0.0f ? tqkv_root / norm : 0.0f;

  uint low = 0;
  uint top = 0;
  float products = 0.0f;
  float lengths = 0.0f;
  for (int c = 0; c < tqkv_channels; c++) {
    const float z = y[c] * factor;
    uint index = 0;
    for (uint step = 1u << (tqkv_bits - 1); step > 0; step /= 2) {
      if (z > tqkv_thresholds[index + step - 1]) index += step;
    }
    const float centroid = tqkv_centroids[index];
    products += z * centroid;
    lengths += centroid * centroid;
    low |= (index & ((1u << tqkv_low_bits) - 1u)) << (c * tqkv_low_bits);
    top |= (index >> tqkv_low_bits) << c;
  }
{scalar}
  if (lane == 0) scalars[at] = static_cast<half>(norm > 0.0f ? min(scalar * as_type<float>(power), 65504.0f) : 0.0f);
  device uint* words = codes + at * (tqkv_dim * tqkv_bits / 32);
  tqkv_store_plane(low, tqkv_low_bits, lane, words);
{top}
)";

// As docs/formats.md has them, with products and lengths dim times those of unit vectors.
std::string scalar_of(KvScalar scalar) {
  switch (scalar) {
    case KvScalar::norm:
      return "  const float scalar = norm;";
    case KvScalar::corrected:
      return "  const float scalar = norm * tqkv_root / sqrt(simd_sum(lengths));";
    case KvScalar::unbiased:
      return "  const float scalar = norm * tqkv_size / simd_sum(products);";
    case KvScalar::best:
      return "  const float scalar = norm * simd_sum(products) / simd_sum(lengths);";
  }
  throw Error(ErrorKind::internal, "a scalar without a name");
}

}  // namespace

KernelCall encode_call(const SideFormat& format, const mx::array& x, const mx::array& signs) {
  const int kv_heads = x.shape(0), tokens = x.shape(1), dim = x.shape(2), bits = format.bits;
  if (!has_kernel(format, format, kv_heads, kv_heads, dim) || format.kind != SideFormat::Kind::turboquant)
    throw Error(ErrorKind::internal,
                fmt::format("the encoding kernel was called for {}, {} channels", format.describe(), dim));
  const int low_bits = bits == 3 || bits == 5 ? bits - 1 : bits;
  const float root = std::sqrt(static_cast<float>(dim));
  KernelCall call;
  call.name = fmt::format("tqkv_encode_{}_{}_d{}", bits, name(format.scalar), dim);
  call.input_names = {"x", "signs", "tokens"};
  call.inputs = {x, signs, mx::array({tokens}, mx::int32)};
  call.header = constant("tqkv_dim", dim) + constant("tqkv_channels", dim / lanes) + constant("tqkv_bits", bits) +
                constant("tqkv_low_bits", low_bits) + constant("tqkv_size", static_cast<float>(dim)) +
                constant("tqkv_root", root) + constant("tqkv_scale", 1.0f / root) +
                table("tqkv_thresholds", codec::thresholds(bits)) + table("tqkv_centroids", codec::centroids(bits)) +
                functions;
  call.source = with(body, "{scalar}", scalar_of(format.scalar));
  call.source =
      with(call.source, "{top}",
           low_bits == bits ? "" : "  tqkv_store_plane(top, 1, lane, words + tqkv_dim * tqkv_low_bits / 32);\n");
  call.output_names = {"codes", "scalars"};
  call.shapes = {{kv_heads, tokens, dim * bits / 32}, {kv_heads, tokens, 1}};
  call.types = {mx::uint32, mx::float16};
  call.grid = {lanes * kv_heads * tokens, 1, 1};
  call.group = {lanes * vectors_of_group, 1, 1};
  return call;
}

Payload encode(const RunKernel& run, const SideFormat& format, const mx::array& x, const mx::array& signs) {
  return run(encode_call(format, x, signs));
}

Payload encode_plain(const SideFormat& format, const mx::array& x, const mx::array& signs) {
  return Codec(format, x.shape(0), x.shape(2)).encode(mx::hadamard_transform(mx::multiply(x, signs)));
}

}  // namespace tqkv::mlx
