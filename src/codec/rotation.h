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

/// Channel numbers under which rotation_sign gives the signs of the further transforms (docs/formats.md): `channel` of
/// block `block` of an orthogonal S; of the part with more bits of a split, and of each round over the other channels.
constexpr int block_channel(int block, int channel) {
  return 4096 + 1024 * block + channel;
}
constexpr int split_channel(int channel) {
  return 1024 + channel;
}
constexpr int split_channel(int round, int channel) {
  return 2048 + 1024 * round + channel;
}
/// Hash of entry (row, column) of a Gaussian S.
std::uint64_t matrix_hash(std::uint64_t seed, int row, int column);

/// x <- T x, x [12 n] with n a power of two: T = H12 ⊗ H, H12 / sqrt(12) the Hadamard matrix of order 12 by Paley's
/// construction over the quadratic residues modulo 11, H the normalised transform of each n neighbours. Orthonormal.
void hadamard12(std::span<float> x);
void hadamard12_transposed(std::span<float> x);  // x <- transposed T x, the inverse

}  // namespace tqkv::codec
