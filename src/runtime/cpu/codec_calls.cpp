#include "runtime/cpu/codec_calls.h"

#include "codec/codebook.h"

namespace tqkv::cpu {

void encode_reference(const codec::SideCodec& codec, const float* x, std::byte* codes, std::byte* scalars) {
  codec::encode(codec, {x, static_cast<std::size_t>(codec.dim)}, codes, scalars);
}

void decode_reference(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, float* x) {
  codec::decode(codec, codes, scalars, {x, static_cast<std::size_t>(codec.dim)});
}

const float* centroid_table(int bits) {
  return codec::centroids(bits).data();
}
const float* threshold_table(int bits) {
  return codec::thresholds(bits).data();
}

}  // namespace tqkv::cpu
