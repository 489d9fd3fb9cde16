#include "cache/session/values.h"

#include <fmt/format.h>

#include <cmath>

#include "base/float16.h"

namespace tqkv::cache {
namespace {

constexpr std::uint16_t f16_exponent = 0x7c00, bf16_exponent = 0x7f80;
constexpr std::uint32_t f32_exponent = 0x7f800000;

// All ones in the exponent is infinity or no number. No early end: the loop is a vector's.
template <class Bits>
bool finite(const std::byte* at, std::size_t count, Bits exponent) {
  Bits bad = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Bits bits = load<Bits>(at + i * sizeof(Bits));
    bad = static_cast<Bits>(bad | static_cast<Bits>((bits & exponent) == exponent ? 1 : 0));
  }
  return bad == 0;
}

bool finite(DType dtype, std::span<const std::byte> bytes) {
  if (dtype == DType::f32) return finite<std::uint32_t>(bytes.data(), bytes.size() / 4, f32_exponent);
  return finite<std::uint16_t>(bytes.data(), bytes.size() / 2, bf16_exponent);
}

// Scalars of coded vectors: bf16 scales and biases of affine groups first, f16 the rest (docs/formats.md).
bool finite_scalars(const SideFormat& vectors, int head_dim, std::span<const std::byte> bytes) {
  const codec::SideCodec codec = codec::side_codec(vectors, head_dim);
  std::size_t affine = 0;  // of bf16
  if (vectors.kind == SideFormat::Kind::affine || vectors.kind == SideFormat::Kind::rotated_affine)
    affine = codec.scalar_bytes / 2;
  if (vectors.kind == SideFormat::Kind::sketch) affine = codec.scalar_bytes / 2 - 1;
  const std::size_t others = codec.scalar_bytes / 2 - affine, vector = codec.vector_bytes();
  bool good = true;
  for (std::size_t at = codec.code_bytes; at < bytes.size(); at += vector) {
    const std::byte* scalars = bytes.data() + at;
    good &= finite<std::uint16_t>(scalars, affine, bf16_exponent);
    good &= finite<std::uint16_t>(scalars + 2 * affine, others, f16_exponent);
  }
  return good;
}

std::optional<std::string> problem_of_ids(std::span<const std::byte> bytes, int vocabulary) {
  for (std::size_t at = 0; at < bytes.size(); at += 4) {
    const auto id = load<std::int32_t>(bytes.data() + at);
    if (id < 0 || id >= vocabulary)
      return fmt::format("id {} of token {} is not between 0 and {}", id, at / 4, vocabulary - 1);
  }
  return std::nullopt;
}

bool squares_are_sums(std::span<const std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    const auto square = load<double>(bytes.data() + at);
    if (!std::isfinite(square) || square < 0) return false;
  }
  return true;
}

}  // namespace

std::optional<std::string> problem_of(const SessionTensor& tensor, std::span<const std::byte> bytes, int head_dim,
                                      int vocabulary) {
  switch (tensor.part) {
    case SessionPart::checksums:
      return std::nullopt;
    case SessionPart::tokens:
    case SessionPart::pending:
      return problem_of_ids(bytes, vocabulary);
    case SessionPart::squares:
      if (!squares_are_sums(bytes)) return "has a number that is no sum of squares";
      return std::nullopt;
    case SessionPart::logits:
    case SessionPart::mean:
    case SessionPart::recurrent:
    case SessionPart::convolution:
      if (!finite(tensor.shape.dtype, bytes)) return "has a number that is not finite";
      return std::nullopt;
    case SessionPart::main:
    case SessionPart::first:
    case SessionPart::sink:
    case SessionPart::window:
      if (tensor.vectors.kind == SideFormat::Kind::plain ? !finite(tensor.shape.dtype, bytes)
                                                         : !finite_scalars(tensor.vectors, head_dim, bytes))
        return "has a number that is not finite";
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace tqkv::cache
