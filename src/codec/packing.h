// Packing of indices of 2, 3, 4, 5 or 8 bits into planes that never straddle a byte (layouts: side_codec.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace tqkv::codec {

/// Bytes of `dim` packed indices; dim is a multiple of 8.
std::size_t packed_bytes(int bits, int dim);
/// Packs `index` [dim], each below 2^bits, into packed_bytes(bits, dim) bytes.
void pack(int bits, std::span<const std::uint8_t> index, std::byte* codes);
void unpack(int bits, const std::byte* codes, std::span<std::uint8_t> index);

}  // namespace tqkv::codec
