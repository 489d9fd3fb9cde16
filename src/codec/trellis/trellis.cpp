// TurboQuant's rotation and scalar with trellis-coded indices (Marcellin and Fischer 1990): one bit of each index
// drives a shift register, whose last bits choose among sets of levels, so that a vector has more levels than its
// indices have bits for. Decoding looks up one level a channel; encoding is Viterbi's search over the vector.
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "codec/method.h"
#include "codec/packing.h"
#include "codec/trellis/levels.h"
#include "codec/trellis/viterbi.h"
#include "tqkv/error.h"

namespace tqkv::codec {
namespace {

void plan(SideCodec& codec) {
  const SideFormat& format = codec.format;
  require_rotation(codec);
  if (format.bits < 2 || format.bits > 5) refuse_bits(codec, "2 to 5");
  const std::span<const int> states = trellis_states(format.bits);
  bool found = false;
  for (const int one : states) found = found || one == format.states;
  if (!found)
    throw Error(ErrorKind::format, fmt::format("{}: {} states were asked for, there are {}: choose one of these",
                                               format.describe(), format.states, fmt::join(states, ", ")));
  codec.code_bytes = packed_bytes(1, codec.dim) + packed_bytes(format.bits - 1, codec.dim);
  codec.scalar_bytes = sizeof(std::uint16_t);
}

// z = y sqrt(d) / n in f32, as the kernels have it; by way of f64 where the factor is no normal f32.
void normalise(std::span<const float> y, double n, std::span<float> z) {
  const double factor = n > 0.0 ? std::sqrt(static_cast<double>(y.size())) / n : 0.0;
  const bool in_f32 = n > 1e-25 && n < 1e25;
  const auto factor32 = in_f32 ? static_cast<float>(factor) : 0.0f;
  for (std::size_t i = 0; i < y.size(); ++i)
    z[i] = in_f32 ? y[i] * factor32 : static_cast<float>(static_cast<double>(y[i]) * factor);
}

void encode_vector(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  const TrellisTable& table = trellis_table(codec.format.bits, codec.format.states);
  const double n = norm_of(y);
  std::array<float, max_dim> z;
  std::array<std::uint8_t, max_dim> window, choice;
  normalise(y, n, {z.data(), y.size()});
  viterbi(table, {z.data(), y.size()}, {window.data(), y.size()}, {choice.data(), y.size()});
  double products = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto level = static_cast<double>(table.level[window[i] * table.choices + choice[i]]);
    products += static_cast<double>(z[i]) * level;
    squares += level * level;
    window[i] &= 1u;  // the shift bit
  }
  pack(1, {window.data(), y.size()}, codes);
  pack(codec.format.bits - 1, {choice.data(), y.size()}, codes + packed_bytes(1, codec.dim));
  const auto d = static_cast<double>(y.size());
  store_f16(scalars, n > 0.0 ? stored_scalar(codec.format.scalar, n, products / d, squares / d) : 0.0);
}

void decode_vector(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out) {
  const TrellisTable& table = trellis_table(codec.format.bits, codec.format.states);
  std::array<std::uint8_t, max_dim> bit, choice;
  unpack(1, codes, {bit.data(), out.size()});
  unpack(codec.format.bits - 1, codes + packed_bytes(1, codec.dim), {choice.data(), out.size()});
  const float unit = table.step * (load_f16(scalars) / std::sqrt(static_cast<float>(out.size())));
  int window = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    window = (2 * window + bit[i]) & (2 * table.states - 1);
    out[i] = static_cast<float>(table.code[window * table.choices + choice[i]]) * unit;
  }
}

std::string describe(const SideFormat& format) {
  return fmt::format("trellis {} bit, {} states, scalar {}", format.bits, format.states, name(format.scalar));
}

}  // namespace

const Method trellis{SideFormat::Kind::trellis, plan, encode_vector, decode_vector, describe};

}  // namespace tqkv::codec
