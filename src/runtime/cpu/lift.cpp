#include "runtime/cpu/lift.h"

#include <algorithm>
#include <cassert>
#include <span>
#include <vector>

#include "runtime/cpu/workspace.h"

namespace tqkv::cpu {
namespace {

std::span<float> span_of(Rows<float> x, int row) {
  return x.sub(row, 1).span();
}

void from_basis(const Kernels& kernels, const codec::Basis& basis, Rows<float> y) {
  if (basis.kind() == codec::Basis::Kind::rotation)
    kernels.attention.unrotate(y.data, y.stride, y.rows, basis.signs().data(), y.columns);
  else
    for (int i = 0; i < y.rows; ++i) basis.revert(span_of(y, i));
}

// An orthogonal S is rotations one below the other, each kept as its signs.
const float* signs_of(const codec::SignMatrix& matrix, int first) {
  return matrix.values().data() + first;
}

// Rows first.. of a Gaussian S.
const float* rows_of(const codec::SignMatrix& matrix, int first) {
  return Rows<const float>(matrix.values().data(), matrix.rows(), matrix.dim()).row(first);
}

// out [rows, rows of S] = S x for each row. x [rows, dim]
void multiply(const Kernels& kernels, const codec::SignMatrix& matrix, Rows<const float> x, Rows<float> out,
              float* scratch) {
  const int dim = matrix.dim(), rows = x.rows;
  if (matrix.projection() == Projection::orthogonal) {
    const Rows<float> turned(scratch, rows, dim);
    for (int first = 0; first < matrix.rows(); first += dim) {
      copy(x, turned);
      kernels.attention.rotate(turned.data, dim, rows, signs_of(matrix, first), dim);
      const int count = std::min(dim, matrix.rows() - first);
      copy(turned.slice(0, count), out.slice(first, count));
    }
    return;
  }
  const AttentionState state{rows, dim, x.data, nullptr, nullptr, nullptr};
  const Rows<float> scores(scratch, rows, tile_keys);
  for (int first = 0; first < matrix.rows(); first += tile_keys) {
    const int count = std::min(tile_keys, matrix.rows() - first);
    const std::vector<int> visible(static_cast<std::size_t>(rows), count);
    kernels.attention.scores(state, rows_of(matrix, first), count, visible.data(), scores.data);
    copy(scores.slice(0, count), out.slice(first, count));
  }
}

// out [rows, dim] += transposed S z for each row. z [rows, rows of S]
void add_transposed(const Kernels& kernels, const codec::SignMatrix& matrix, Rows<const float> z, Rows<float> out,
                    float* scratch) {
  const int dim = matrix.dim(), rows = z.rows;
  if (matrix.projection() == Projection::orthogonal) {
    const Rows<float> turned(scratch, rows, dim);
    for (int first = 0; first < matrix.rows(); first += dim) {
      const int count = std::min(dim, matrix.rows() - first);
      fill(turned, 0.0f);
      copy(z.slice(first, count), turned.slice(0, count));
      kernels.attention.unrotate(turned.data, dim, rows, signs_of(matrix, first), dim);
      kernels.vector.add(out.data, turned.data, out.size());
    }
    return;
  }
  AttentionState state{rows, dim, nullptr, nullptr, nullptr, out.data};
  const Rows<float> weights(scratch, rows, tile_keys);
  for (int first = 0; first < matrix.rows(); first += tile_keys) {
    const int count = std::min(tile_keys, matrix.rows() - first);
    fill(weights, 0.0f);
    copy(z.slice(first, count), weights.slice(0, count));
    const std::vector<int> visible(static_cast<std::size_t>(rows), count);
    kernels.attention.add_values(state, rows_of(matrix, first), count, visible.data(), weights.data);
  }
}

}  // namespace

std::size_t lift_scratch(int rows, int dim) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(std::max(dim, tile_keys));
}

void to_basis(const Kernels& kernels, const codec::Basis& basis, Rows<float> x) {
  if (basis.kind() == codec::Basis::Kind::rotation)
    kernels.attention.rotate(x.data, x.stride, x.rows, basis.signs().data(), x.columns);
  else if (basis.kind() == codec::Basis::Kind::split)
    for (int i = 0; i < x.rows; ++i) basis.apply(span_of(x, i));
}

void lift(const Kernels& kernels, const codec::SideCodec& codec, const codec::Basis& basis, Rows<float> in,
          Rows<float> out, float* scratch) {
  assert(in.columns == codec.dim && out.columns == codec.space());
  to_basis(kernels, basis, in);
  if (codec.signs == 0) {
    if (out.data != in.data) copy(in, out);
    return;
  }
  copy(in.slice(0, codec.direct), out.slice(0, codec.direct));
  multiply(kernels, *codec.matrix, in, out.slice(codec.direct, codec.signs), scratch);
}

void lower(const Kernels& kernels, const codec::SideCodec& codec, const codec::Basis& basis, Rows<float> sums,
           Rows<float> out, float* scratch) {
  assert(sums.columns == codec.space() && out.columns == codec.dim);
  if (codec.signs == 0) {
    if (out.data != sums.data) copy(sums, out);
  } else {
    fill(out, 0.0f);
    copy(sums.slice(0, codec.direct), out.slice(0, codec.direct));
    add_transposed(kernels, *codec.matrix, sums.slice(codec.direct, codec.signs), out, scratch);
  }
  from_basis(kernels, basis, out);
}

}  // namespace tqkv::cpu
