// Rows: a matrix that lies row by row in memory of something else.
#pragma once
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <span>
#include <type_traits>

namespace tqkv {

/// [rows, columns] with element (r, c) at data[r * stride + c]. Copying it copies no element. Debug builds assert that
/// every row, part and shape lies in it.
template <class T>
struct Rows {
  T* data = nullptr;
  int rows = 0, columns = 0;
  std::ptrdiff_t stride = 0;  // elements from one row to the next, `columns` where rows lie one behind the other

  constexpr Rows() = default;
  constexpr Rows(T* a_data, int a_rows, int a_columns) : Rows(a_data, a_rows, a_columns, a_columns) {}
  constexpr Rows(T* a_data, int a_rows, int a_columns, std::ptrdiff_t a_stride)
      : data(a_data), rows(a_rows), columns(a_columns), stride(a_stride) {
    assert(rows >= 0 && columns >= 0 && stride >= columns);
  }
  /// Rows that are read can be taken from rows that are written.
  constexpr operator Rows<const T>() const requires(!std::is_const_v<T>) { return {data, rows, columns, stride}; }

  constexpr T* row(int index) const {
    assert(index >= 0 && index < rows);
    return data + index * stride;
  }
  constexpr T& at(int index, int column) const {
    assert(column >= 0 && column < columns);
    return row(index)[column];
  }
  /// Rows first..first+count-1, those from `first` on, and the first `count`.
  constexpr Rows sub(int first_row, int count) const {
    assert(first_row >= 0 && count >= 0 && first_row + count <= rows);
    return {data + first_row * stride, count, columns, stride};
  }
  constexpr Rows from(int first_row) const { return sub(first_row, rows - first_row); }
  constexpr Rows first(int count) const { return sub(0, count); }
  /// Columns first..first+count-1 of every row.
  constexpr Rows slice(int first_column, int count) const {
    assert(first_column >= 0 && count >= 0 && first_column + count <= columns);
    return {data + first_column, rows, count, stride};
  }
  /// Row `index` as [heads, columns / heads].
  constexpr Rows heads(int index, int count) const {
    assert(columns % count == 0);
    return {row(index), count, columns / count};
  }
  /// The beginning of the same memory in another shape.
  constexpr Rows as(int a_rows, int a_columns) const {
    const Rows other(data, a_rows, a_columns);
    assert(other.size() <= size());
    return other;
  }
  /// All elements, of rows that lie one behind the other.
  constexpr std::size_t size() const {
    assert(stride == columns || rows <= 1);
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  }
  constexpr std::span<T> span() const { return {data, size()}; }
};

template <class T>
constexpr void copy(std::type_identity_t<Rows<const T>> from, Rows<T> to) {
  assert(from.rows == to.rows && from.columns == to.columns);
  for (int i = 0; i < from.rows; ++i) std::copy_n(from.row(i), from.columns, to.row(i));
}

template <class T>
constexpr void fill(Rows<T> rows, std::type_identity_t<T> value) {
  for (int i = 0; i < rows.rows; ++i) std::fill_n(rows.row(i), rows.columns, value);
}

}  // namespace tqkv
