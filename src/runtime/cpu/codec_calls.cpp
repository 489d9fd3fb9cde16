#include "runtime/cpu/codec_calls.h"

#include <cmath>
#include <numbers>

#include "codec/codebook.h"
#include "codec/polarquant/angles.h"

namespace tqkv::cpu {
namespace {

PolarTables make_polar_tables() {
  PolarTables tables{};
  for (int i = 0; i < codec::polar_bins; ++i) {
    const double angle = (i + 0.5) * (2.0 * std::numbers::pi / codec::polar_bins);
    tables.cosine[0][i] = static_cast<float>(std::cos(angle));
    tables.sine[0][i] = static_cast<float>(std::sin(angle));
  }
  for (int i = 0; i < 3; ++i) {
    const double edge = (i + 1) * (2.0 * std::numbers::pi / codec::polar_bins);
    tables.edge_cosine[0][i] = static_cast<float>(std::cos(edge));
    tables.edge_sine[0][i] = static_cast<float>(std::sin(edge));
  }
  for (std::size_t level = 1; level < 4; ++level) {
    const auto& angle = codec::polar_centroids[level - 1];
    for (std::size_t i = 0; i < 4; ++i) {
      tables.cosine[level][i] = static_cast<float>(std::cos(angle[i]));
      tables.sine[level][i] = static_cast<float>(std::sin(angle[i]));
    }
    for (std::size_t i = 0; i < 3; ++i) {
      const double edge = 0.5 * (angle[i] + angle[i + 1]);
      tables.edge_cosine[level][i] = static_cast<float>(std::cos(edge));
      tables.edge_sine[level][i] = static_cast<float>(std::sin(edge));
    }
  }
  return tables;
}

}  // namespace

void encode_reference(const codec::SideCodec& codec, const float* x, std::byte* codes, std::byte* scalars) {
  codec::encode(codec, {x, static_cast<std::size_t>(codec.dim)}, codes, scalars);
}

void decode_reference(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, float* out) {
  codec::decode(codec, codes, scalars, {out, static_cast<std::size_t>(codec.space())});
}

const float* centroid_table(int bits) {
  return codec::centroids(bits).data();
}
const float* threshold_table(int bits) {
  return codec::thresholds(bits).data();
}

SignRows sign_rows(const codec::SignMatrix& matrix) {
  return {matrix.projection() == Projection::gaussian, matrix.factor(), matrix.values().data()};
}

const PolarTables& polar_tables() {
  static const PolarTables tables = make_polar_tables();
  return tables;
}

}  // namespace tqkv::cpu
