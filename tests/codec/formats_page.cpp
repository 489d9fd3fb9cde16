// The tables of docs/formats.md, read from the page, against the code.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "codec/codebook.h"
#include "codec/polarquant/angles.h"
#include "codec/rotation.h"
#include "codec/sign_matrix.h"
#include "codec/trellis/levels.h"
#include "codec/vectors.h"
#include "support/places.h"
#include "tqkv/kv_format.h"

using namespace tqkv;
using namespace tqkv::codec;

namespace {

using Row = std::vector<std::string>;

/// The cell between two bars, without blanks around it and the quotes of code.
std::string cell_of(std::string_view text) {
  const auto first = text.find_first_not_of(" `"), last = text.find_last_not_of(" `");
  return first == std::string_view::npos ? "" : std::string(text.substr(first, last - first + 1));
}

Row cells_of(std::string_view line) {
  Row row;
  for (std::size_t start = 1, end = 0; (end = line.find('|', start)) != std::string_view::npos; start = end + 1)
    row.push_back(cell_of(line.substr(start, end - start)));
  return row;
}

/// The rows of every table of the page with these columns; there must be one.
std::vector<Row> table(std::string_view columns) {
  std::istringstream page(read_text(std::filesystem::path(test::source_dir()) / "docs/formats.md"));
  const Row expected = cells_of(columns);
  std::vector<Row> rows;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with('|')) {
      inside = false;
    } else if (inside) {
      if (!line.starts_with("|---")) rows.push_back(cells_of(line));
      if (!line.starts_with("|---")) REQUIRE(rows.back().size() == expected.size());
    } else {
      inside = cells_of(line) == expected;
    }
  }
  REQUIRE_FALSE(rows.empty());
  return rows;
}

/// What stands between blanks or commas.
std::vector<std::string> words(std::string text) {
  std::replace(text.begin(), text.end(), ',', ' ');
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

std::vector<float> floats(const std::string& text) {
  std::vector<float> numbers;
  for (const std::string& word : words(text)) numbers.push_back(std::stof(word));
  return numbers;
}

std::vector<int> ints(const std::string& text) {
  std::vector<int> numbers;
  for (const std::string& word : words(text)) numbers.push_back(std::stoi(word));
  return numbers;
}

/// The seed at the start of "2^64 - 1, 7, 1, 17" or "0, 3, 1", and the numbers after it.
std::pair<std::uint64_t, std::vector<int>> seed_and_place(const std::string& text) {
  const std::size_t comma = text.find(',');
  const std::string seed = text.substr(0, comma);
  return {seed == "2^64 - 1" ? ~std::uint64_t{0} : std::stoull(seed), ints(text.substr(comma))};
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes)
    text += fmt::format("{}{:02x}", text.empty() ? "" : " ", std::to_integer<int>(byte));
  return text;
}

}  // namespace

TEST_CASE("docs/formats.md has the levels of every trellis table") {
  std::set<std::pair<int, int>> seen;
  for (const Row& row : table("| bits, states | step | codes, window 0 first |")) {
    CAPTURE(row[0]);
    const std::vector<int> key = ints(row[0]), codes = ints(row[2]);
    const TrellisTable& expected = trellis_table(key.at(0), key.at(1));
    CHECK(std::stof(row[1]) == expected.step);
    CHECK(codes == std::vector<int>(expected.code, expected.code + expected.levels));
    CHECK(seen.emplace(key.at(0), key.at(1)).second);
  }
  std::set<std::pair<int, int>> all;
  for (const int bits : {2, 3, 4, 5}) {
    for (const int states : trellis_states(bits)) all.emplace(bits, states);
  }
  CHECK(seen == all);
}

TEST_CASE("docs/formats.md has the codebooks") {
  std::set<int> seen;
  for (const Row& row : table("| bits | positive centroids |")) {
    CAPTURE(row[0]);
    const std::vector<float> positive = floats(row[1]);
    const auto expected = centroids(std::stoi(row[0]));
    REQUIRE(expected.size() == 2 * positive.size());
    CHECK(std::equal(positive.begin(), positive.end(), expected.begin() + std::ssize(positive)));
    seen.insert(std::stoi(row[0]));
  }
  CHECK(seen == std::set<int>{1, 2, 3, 4, 5});
}

TEST_CASE("docs/formats.md has the angles of polarquant") {
  const auto rows = table("| level | centroids, radians |");
  REQUIRE(rows.size() == polar_centroids.size());
  for (std::size_t level = 0; level < rows.size(); ++level) {
    CHECK(std::stoul(rows[level][0]) == level + 2);
    std::vector<double> angles;
    for (const std::string& word : words(rows[level][1])) angles.push_back(std::stod(word));
    CHECK(angles == std::vector<double>(polar_centroids[level].begin(), polar_centroids[level].end()));
  }
}

TEST_CASE("docs/formats.md has bytes that the trellis writes") {
  std::vector<float> y;
  for (int j = 0; j < 16; ++j) y.push_back(static_cast<float>(7 * j % 16) - 7.5f);
  const auto rows = table("| bits, states | codes | scalar |");
  CHECK(rows.size() == 12);
  for (const Row& row : rows) {
    CAPTURE(row[0]);
    const std::vector<int> key = ints(row[0]);
    const auto stored = test::encoded(side_codec(test::trellis(key.at(0), key.at(1), KvScalar::corrected), 16), y);
    CHECK(hex(stored.codes) == row[1]);
    CHECK(hex(stored.scalars) == row[2]);
  }
}

TEST_CASE("docs/formats.md has signs of the rotation and entries of S") {
  for (const Row& row : table("| seed, layer, head, channel | hash | sign |")) {
    CAPTURE(row[0]);
    const auto [seed, place] = seed_and_place(row[0]);
    const float sign = rotation_sign(seed, place.at(0), place.at(1), place.at(2));
    CHECK(row[2] == (sign < 0 ? "-" : "+"));
    CHECK((std::stoull(row[1], nullptr, 16) >> 63 != 0) == (sign < 0));
  }
  for (const Row& row : table("| seed, layer, head | signs of channels 0 to 31 |")) {
    CAPTURE(row[0]);
    const auto [seed, place] = seed_and_place(row[0]);
    std::string signs;
    for (const float sign : rotation_signs(seed, place.at(0), place.at(1), 32)) signs += sign < 0 ? '-' : '+';
    CHECK(row[1] == signs);
  }
  for (const Row& row : table("| seed, row, column | h | entry of a Gaussian S |")) {
    CAPTURE(row[0]);
    const auto [seed, place] = seed_and_place(row[0]);
    CHECK(std::stoull(row[1], nullptr, 16) == matrix_hash(seed, place.at(0), place.at(1)));
    CHECK(std::stof(row[2]) == gaussian_entry(seed, place.at(0), place.at(1)));
  }
}

TEST_CASE("docs/formats.md has canonical strings") {
  const auto defaults = table("| name | keys | default |");
  CHECK(defaults.size() == all_backends().size());
  for (const Row& row : defaults) CHECK(KvFormat::parse(row[0]).canonical() == row[2]);
  for (const Row& row : table("| string | canonical |")) CHECK(KvFormat::parse(row[0]).canonical() == row[1]);
}
