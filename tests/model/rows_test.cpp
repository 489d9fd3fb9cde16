#include "model/rows.h"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

namespace tqkv {
namespace {

std::vector<int> counted(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

TEST_CASE("Parts of rows are rows of the same memory") {
  auto memory = counted(24);
  const Rows<int> rows(memory.data(), 4, 6);
  CHECK(*rows.row(2) == 12);
  CHECK(rows.at(3, 5) == 23);
  CHECK(rows.size() == 24);
  CHECK(rows.sub(1, 2).at(1, 0) == 12);
  CHECK(rows.from(3).rows == 1);
  CHECK(rows.first(3).rows == 3);

  const Rows<int> columns = rows.slice(2, 3);
  CHECK(columns.columns == 3);
  CHECK(columns.at(1, 0) == 8);
  CHECK(columns.from(2).slice(1, 1).at(1, 0) == 21);
  CHECK(columns.sub(3, 1).size() == 3);

  const Rows<int> heads = rows.heads(1, 3);
  CHECK(heads.rows == 3);
  CHECK(heads.at(2, 1) == 11);
  CHECK(rows.as(3, 5).at(2, 4) == 14);
  rows.slice(4, 2).at(0, 1) = 100;
  CHECK(memory[5] == 100);
}

TEST_CASE("Rows are copied and filled element by element, whatever lies between them") {
  auto memory = counted(12);
  std::vector<int> out(6);
  const Rows<int> rows(memory.data(), 3, 4);
  copy(rows.slice(1, 2), Rows<int>(out.data(), 3, 2));
  CHECK(out == std::vector{1, 2, 5, 6, 9, 10});
  fill(rows.slice(0, 2), -1);
  CHECK(memory == std::vector{-1, -1, 2, 3, -1, -1, 6, 7, -1, -1, 10, 11});
}

}  // namespace tqkv
