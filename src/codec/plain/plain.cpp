// bf16 or f32 values, channel 0 first.
#include "base/float16.h"
#include "codec/method.h"

namespace tqkv::codec {
namespace {

void plan(SideCodec& codec) {
  const int bits = codec.format.bits;
  if (bits != 16 && bits != 32) refuse_bits(codec, "16 and 32");
  codec.code_bytes = static_cast<std::size_t>(codec.dim) * static_cast<std::size_t>(bits) / 8;
}

void encode_values(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte*) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (codec.format.bits == 16)
      store(codes + 2 * i, f32_to_bf16(x[i]));
    else
      store(codes + 4 * i, x[i]);
  }
}

void decode_values(const SideCodec& codec, const std::byte* codes, const std::byte*, std::span<float> x) {
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = codec.format.bits == 16 ? bf16_to_f32(load<std::uint16_t>(codes + 2 * i)) : load<float>(codes + 4 * i);
}

std::string describe(const SideFormat& format) {
  return format.bits == 16 ? "bf16" : format.bits == 32 ? "f32" : "plain " + std::to_string(format.bits) + " bit";
}

}  // namespace

const Method plain{SideFormat::Kind::plain, plan, encode_values, decode_values, describe};

}  // namespace tqkv::codec
