// Packing of indices: into planes that never straddle a byte, or as one stream of bits, as MLX does it (layouts:
// docs/formats.md).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace tqkv::codec {

/// Bytes of `dim` packed indices of 1 to 6 or 8 bits; dim * bits is a multiple of 8.
std::size_t packed_bytes(int bits, int dim);
/// Packs `index` [dim], each below 2^bits, into packed_bytes(bits, dim) bytes. Planes: 1 to 5 and 8 bits; whole bytes
/// in each plane.
void pack(int bits, std::span<const std::uint8_t> index, std::byte* codes);
void unpack(int bits, const std::byte* codes, std::span<std::uint8_t> index);
/// The same as one stream of bits, index i from bit i * bits on, lowest bit first: 1 to 8 bits.
void pack_stream(int bits, std::span<const std::uint8_t> index, std::byte* codes);
void unpack_stream(int bits, const std::byte* codes, std::span<std::uint8_t> index);

}  // namespace tqkv::codec
