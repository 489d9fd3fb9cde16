#include "runtime/cpu/lift.h"

#include <algorithm>
#include <vector>

#include "runtime/cpu/workspace.h"

namespace tqkv::cpu {
namespace {

void from_basis(const Kernels& kernels, const codec::Basis& basis, float* y, int rows, int dim) {
  if (basis.kind() == codec::Basis::Kind::rotation)
    kernels.attention.unrotate(y, dim, rows, basis.signs().data(), dim);
  else
    for (int i = 0; i < rows; ++i)
      basis.revert({y + static_cast<std::ptrdiff_t>(i) * dim, static_cast<std::size_t>(dim)});
}

// out [rows, space] from column `at` on: S x. x [rows, dim]
void multiply(const Kernels& kernels, const codec::SignMatrix& matrix, const float* x, int rows, float* out, int space,
              int at, float* scratch) {
  const int dim = matrix.dim();
  if (matrix.projection() == Projection::orthogonal) {
    for (int first = 0; first < matrix.rows(); first += dim) {
      std::copy_n(x, static_cast<std::ptrdiff_t>(rows) * dim, scratch);
      kernels.attention.rotate(scratch, dim, rows, matrix.values().data() + first, dim);
      const int count = std::min(dim, matrix.rows() - first);
      for (int i = 0; i < rows; ++i)
        std::copy_n(scratch + static_cast<std::ptrdiff_t>(i) * dim, count,
                    out + static_cast<std::ptrdiff_t>(i) * space + at + first);
    }
    return;
  }
  AttentionState state{rows, dim, x, nullptr, nullptr, nullptr};
  for (int first = 0; first < matrix.rows(); first += tile_keys) {
    const int count = std::min(tile_keys, matrix.rows() - first);
    const std::vector<int> visible(static_cast<std::size_t>(rows), count);
    kernels.attention.scores(state, matrix.values().data() + static_cast<std::ptrdiff_t>(first) * dim, count,
                             visible.data(), scratch);
    for (int i = 0; i < rows; ++i)
      std::copy_n(scratch + static_cast<std::ptrdiff_t>(i) * tile_keys, count,
                  out + static_cast<std::ptrdiff_t>(i) * space + at + first);
  }
}

// out [rows, dim] += transposed S z, z [rows, space] from column `at` on
void add_transposed(const Kernels& kernels, const codec::SignMatrix& matrix, const float* z, int rows, int space,
                    int at, float* out, float* scratch) {
  const int dim = matrix.dim();
  if (matrix.projection() == Projection::orthogonal) {
    for (int first = 0; first < matrix.rows(); first += dim) {
      const int count = std::min(dim, matrix.rows() - first);
      std::fill_n(scratch, static_cast<std::ptrdiff_t>(rows) * dim, 0.0f);
      for (int i = 0; i < rows; ++i)
        std::copy_n(z + static_cast<std::ptrdiff_t>(i) * space + at + first, count,
                    scratch + static_cast<std::ptrdiff_t>(i) * dim);
      kernels.attention.unrotate(scratch, dim, rows, matrix.values().data() + first, dim);
      kernels.vector.add(out, scratch, static_cast<std::size_t>(rows) * static_cast<std::size_t>(dim));
    }
    return;
  }
  AttentionState state{rows, dim, nullptr, nullptr, nullptr, out};
  for (int first = 0; first < matrix.rows(); first += tile_keys) {
    const int count = std::min(tile_keys, matrix.rows() - first);
    for (int i = 0; i < rows; ++i) {
      float* row = scratch + static_cast<std::ptrdiff_t>(i) * tile_keys;
      std::fill_n(row, tile_keys, 0.0f);
      std::copy_n(z + static_cast<std::ptrdiff_t>(i) * space + at + first, count, row);
    }
    const std::vector<int> visible(static_cast<std::size_t>(rows), count);
    kernels.attention.add_values(state, matrix.values().data() + static_cast<std::ptrdiff_t>(first) * dim, count,
                                 visible.data(), scratch);
  }
}

}  // namespace

std::size_t lift_scratch(int rows, int dim) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(std::max(dim, tile_keys));
}

void to_basis(const Kernels& kernels, const codec::Basis& basis, float* x, std::ptrdiff_t stride, int rows, int dim) {
  if (basis.kind() == codec::Basis::Kind::rotation)
    kernels.attention.rotate(x, stride, rows, basis.signs().data(), dim);
  else if (basis.kind() == codec::Basis::Kind::split)
    for (int i = 0; i < rows; ++i) basis.apply({x + i * stride, static_cast<std::size_t>(dim)});
}

void lift(const Kernels& kernels, const codec::SideCodec& codec, const codec::Basis& basis, float* in, int rows,
          float* out, float* scratch) {
  const int dim = codec.dim, space = codec.space();
  to_basis(kernels, basis, in, dim, rows, dim);
  if (codec.signs == 0) {
    if (out != in) std::copy_n(in, static_cast<std::ptrdiff_t>(rows) * dim, out);
    return;
  }
  for (int i = 0; i < rows; ++i)
    std::copy_n(in + static_cast<std::ptrdiff_t>(i) * dim, codec.direct, out + static_cast<std::ptrdiff_t>(i) * space);
  multiply(kernels, *codec.matrix, in, rows, out, space, codec.direct, scratch);
}

void lower(const Kernels& kernels, const codec::SideCodec& codec, const codec::Basis& basis, float* sums, int rows,
           float* out, float* scratch) {
  const int dim = codec.dim, space = codec.space();
  if (codec.signs == 0) {
    if (out != sums) std::copy_n(sums, static_cast<std::ptrdiff_t>(rows) * dim, out);
  } else {
    std::fill_n(out, static_cast<std::ptrdiff_t>(rows) * dim, 0.0f);
    for (int i = 0; i < rows; ++i)
      std::copy_n(sums + static_cast<std::ptrdiff_t>(i) * space, codec.direct,
                  out + static_cast<std::ptrdiff_t>(i) * dim);
    add_transposed(kernels, *codec.matrix, sums, rows, space, codec.direct, out, scratch);
  }
  from_basis(kernels, basis, out, rows, dim);
}

}  // namespace tqkv::cpu
