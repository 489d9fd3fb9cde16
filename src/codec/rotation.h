// Rotation y = H D x: D a sequence of signs, H the normalised Walsh-Hadamard transform over the whole vector.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace tqkv::codec {

/// Sign (+1 or -1) of one channel. The hash is fixed by docs/formats.md so that any language can rebuild it.
float rotation_sign(std::uint64_t seed, int layer, int head, int channel);

/// Signs of all channels of one (layer, KV head); keys and values share them. `layer` is the index in the whole model.
std::vector<float> rotation_signs(std::uint64_t seed, int layer, int head, int dim);

/// x <- H x, orthonormal, its own inverse. The size is a power of two.
void hadamard(std::span<float> x);
void rotate(std::span<float> x, std::span<const float> signs);    // x <- H D x
void unrotate(std::span<float> y, std::span<const float> signs);  // y <- D H y
bool can_rotate(int dim);                                         // a power of two from 16 to 1024

}  // namespace tqkv::codec
