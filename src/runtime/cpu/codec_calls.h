// The scalar codec behind plain pointers. The kernel files call it for formats and sizes that have no fast path; they
// are compiled for one instruction set each and must not instantiate inline functions of the standard library.
#pragma once
#include <cstddef>

#include "base/float16.h"
#include "codec/side_codec.h"
#include "codec/trellis/levels.h"

namespace tqkv::cpu {

/// x [codec.dim]; out [codec.space()].
void encode_reference(const codec::SideCodec& codec, const float* x, std::byte* codes, std::byte* scalars);
void decode_reference(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, float* out);
const float* centroid_table(int bits);   // [2^bits]
const float* threshold_table(int bits);  // [2^bits - 1]

/// What SignMatrix holds.
struct SignRows {
  bool gaussian;
  float factor;
  const float* values;  // Gaussian: entries [rows, dim]; orthogonal: signs of the channels [blocks, dim]
};
SignRows sign_rows(const codec::SignMatrix& matrix);

/// Polar coordinates, level 1 first. An angle of index i has the cosine and the sine [level][i]; it takes the index i
/// when it lies between the edges i - 1 and i of its level, of which level 1 has those of one quadrant.
struct PolarTables {
  float cosine[4][16], sine[4][16];
  float edge_cosine[4][3], edge_sine[4][3];
};
const PolarTables& polar_tables();

}  // namespace tqkv::cpu
