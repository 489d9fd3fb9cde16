// The order of codes on a card, and products of it, on the host.
#include "runtime/cuda/kernels/fragments.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "codec/codebook.h"
#include "codec/packing.h"
#include "codec/side_codec.h"
#include "cuda/host_mma.h"
#include "runtime/cuda/kernels/query_planes.h"

using namespace tqkv;
using namespace tqkv::cuda;

namespace {

constexpr int dims[] = {64, 128, 192, 256, 512};

std::vector<std::uint8_t> random_codes(int bits, int dim, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(tile_tokens * dim));
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random() % (1u << bits));
  return codes;
}

std::vector<std::uint32_t> tile_of(int bits, int dim, bool keys, const std::vector<std::uint8_t>& codes) {
  std::vector<std::uint32_t> words(static_cast<std::size_t>(tile_words(bits, dim)));
  for (int token = 0; token < tile_tokens; ++token)
    for (int channel = 0; channel < dim; ++channel)
      put_code(bits, dim, keys ? key_code(token, channel) : value_code(token, channel),
               codes[static_cast<std::size_t>(token * dim + channel)], words.data());
  return words;
}

LevelBytes bytes_of_levels(int bits) {
  const auto levels = codec::centroids(bits).last(codec::centroids(bits).size() / 2);
  return level_bytes(levels.data(), static_cast<int>(levels.size()));
}

/// What a lane loads of a tile.
std::vector<std::uint32_t> words_of(int bits, int dim, int lane, const std::vector<std::uint32_t>& tile) {
  std::vector<std::uint32_t> own;
  for (int word = 0; word < lane_words(bits, dim); ++word)
    own.push_back(tile[static_cast<std::size_t>(word_place(lane, word, lane_words(bits, dim)))]);
  return own;
}

BlockBytes decoded(int bits, const LevelBytes& levels, const std::vector<std::uint32_t>& words, int dim, int block) {
  return bits == 2   ? decode_block<2>(levels, words.data(), dim, block)
         : bits == 3 ? decode_block<3>(levels, words.data(), dim, block)
                     : decode_block<4>(levels, words.data(), dim, block);
}

}  // namespace

TEST_CASE("codes in fragment order are the canonical ones: every bit has one place, and comes back") {
  for (const int bits : {2, 3, 4})
    for (const int dim : dims)
      for (const bool keys : {true, false}) {
        CAPTURE(bits);
        CAPTURE(dim);
        CAPTURE(keys);
        CHECK(tile_words(bits, dim) * 32 == tile_tokens * dim * bits);
        std::set<std::pair<int, int>> bits_taken;  // word and bit
        for (int token = 0; token < tile_tokens; ++token)
          for (int channel = 0; channel < dim; ++channel) {
            const Code code = keys ? key_code(token, channel) : value_code(token, channel);
            const LaneCode own = lane_code(code.row, code.column);
            const CodeBits place = code_bits(bits, dim, code.block, own.code);
            const auto add = [&](int word, int bit) {
              bits_taken.insert({word_place(own.lane, word, lane_words(bits, dim)), bit});
            };
            for (int bit = 0; bit < bits - 1; ++bit) add(place.word, place.shift + bit);
            add(place.sign_word, place.sign_bit);
          }
        CHECK(static_cast<int>(bits_taken.size()) == tile_words(bits, dim) * 32);
        CHECK(bits_taken.begin()->first == 0);
        CHECK(bits_taken.rbegin()->first == tile_words(bits, dim) - 1);

        const std::vector<std::uint8_t> codes = random_codes(bits, dim, 7);
        const std::vector<std::uint32_t> tile = tile_of(bits, dim, keys, codes);
        bool same = true;
        for (int token = 0; token < tile_tokens; ++token)
          for (int channel = 0; channel < dim; ++channel)
            same = same && get_code(bits, dim, keys ? key_code(token, channel) : value_code(token, channel),
                                    tile.data()) == codes[static_cast<std::size_t>(token * dim + channel)];
        CHECK(same);
      }
}

TEST_CASE("loads of a warp are 16 bytes a lane, next to each other") {
  const int words = lane_words(4, 256);
  CHECK(words == 16);
  for (int lane = 0; lane < warp_lanes; ++lane)
    for (int word = 0; word < words; word += 4) {
      CHECK(word_place(lane, word, words) % 4 == 0);
      CHECK(word_place(lane, word + 3, words) == word_place(lane, word, words) + 3);
      if (lane > 0) CHECK(word_place(lane, word, words) == word_place(lane - 1, word, words) + 4);
    }
}

TEST_CASE("a block of codes becomes bytes: each code in each place, and words by chance") {
  std::mt19937 random(3);
  for (const int bits : {2, 3, 4}) {
    CAPTURE(bits);
    const LevelBytes levels = bytes_of_levels(bits);
    const auto byte_of = [&](std::uint32_t index) {
      const std::uint32_t m = magnitude_of(bits, index);
      const std::uint32_t byte = (m < 4 ? levels.low >> (8 * m) : levels.high >> (8 * (m - 4))) & 255u;
      return is_negative(bits, index) ? 255u - byte : byte;
    };
    std::vector<std::vector<std::uint8_t>> cases;
    for (unsigned index = 0; index < 1u << bits; ++index)
      cases.emplace_back(static_cast<std::size_t>(tile_tokens * 64), static_cast<std::uint8_t>(index));
    for (unsigned seed = 0; seed < 50; ++seed) cases.push_back(random_codes(bits, 64, seed));
    bool same = true;
    for (const auto& codes : cases) {
      const auto tile = tile_of(bits, 64, true, codes);
      for (int lane = 0; lane < warp_lanes; ++lane)
        for (int block = 0; block < 4; ++block) {
          const BlockBytes bytes = decoded(bits, levels, words_of(bits, 64, lane, tile), 64, block);
          for (int code = 0; code < 8; ++code) {
            const int row = lane / 4 + code / 4 * 8, channel = query_channel(lane, block, code % 4);
            const std::uint32_t found = (code < 4 ? bytes.row : bytes.next) >> (8 * (code % 4)) & 255u;
            same = same && found == byte_of(codes[static_cast<std::size_t>(row * 64 + channel)]);
          }
        }
    }
    CHECK(same);
  }
}

TEST_CASE("bytes of levels are the levels to half a step, and symmetric") {
  for (const int bits : {2, 3, 4}) {
    const auto levels = codec::centroids(bits);
    const LevelBytes bytes = bytes_of_levels(bits);
    for (unsigned index = 0; index < 1u << bits; ++index) {
      const std::uint32_t m = magnitude_of(bits, index);
      const double byte = (m < 4 ? bytes.low >> (8 * m) : bytes.high >> (8 * (m - 4))) & 255u;
      const double level = (byte - 127.5) * bytes.step * (is_negative(bits, index) ? -1 : 1);
      CHECK(std::abs(level - static_cast<double>(levels[index])) <= 0.5001 * static_cast<double>(bytes.step));
    }
  }
}

TEST_CASE("scores from tiles, planes and tensor products are those of decoded keys") {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (const int bits : {2, 3, 4})
    for (const int dim : {64, 128, 256}) {
      CAPTURE(bits);
      CAPTURE(dim);
      // Keys as the codec has them.
      SideFormat format{SideFormat::Kind::turboquant, bits};
      const codec::SideCodec codec = codec::side_codec(format, dim);
      const auto size = static_cast<std::size_t>(dim);
      std::vector<std::uint8_t> codes(tile_tokens * size);
      std::vector<float> keys(tile_tokens * size), scalars(tile_tokens);
      for (std::size_t token = 0; token < tile_tokens; ++token) {
        std::vector<float> key(size);
        for (float& x : key) x = normal(random) * (token % 3 == 0 ? 5.0f : 0.2f);
        std::vector<std::byte> stored(codec.vector_bytes());
        codec::encode(codec, key, stored.data(), stored.data() + codec.code_bytes);
        codec::decode(codec, stored.data(), stored.data() + codec.code_bytes,
                      std::span(keys).subspan(token * size, size));
        codec::unpack(bits, stored.data(), std::span(codes).subspan(token * size, size));
        // A code's level times scalar / sqrt(dim) is the decoded channel.
        scalars[token] =
            keys[token * size] / codec::centroids(bits)[codes[token * size]] * std::sqrt(static_cast<float>(dim));
      }
      std::vector<float> queries(8 * size);
      for (float& x : queries) x = normal(random);
      queries[3] = 40.0f;  // one channel that stands out

      const LevelBytes levels = bytes_of_levels(bits);
      const auto tile = tile_of(bits, dim, true, codes);
      test::Accumulators high{}, low{};
      std::vector<PlaneSums> sums(8);
      std::vector<float> steps(8);
      std::vector<PlaneBytes> planes(queries.size());
      for (std::size_t q = 0; q < 8; ++q) {
        const auto own = std::span(queries).subspan(q * size, size);
        steps[q] = plane_step(*std::ranges::max_element(own, {}, [](float x) { return std::abs(x); }));
        if (steps[q] < 0.0f) steps[q] = -steps[q];
        for (std::size_t i = 0; i < size; ++i) {
          planes[q * size + i] = plane_bytes(own[i], steps[q]);
          sums[q].high += planes[q * size + i].high;
          sums[q].low += planes[q * size + i].low;
          CHECK(std::abs(steps[q] * static_cast<float>(256 * planes[q * size + i].high + planes[q * size + i].low) -
                         own[i]) <= 0.51f * steps[q]);
        }
      }
      for (int block = 0; block < dim / block_channels; block += 2) {
        test::FragmentA a;
        test::FragmentB of_high, of_low;
        for (int lane = 0; lane < warp_lanes; ++lane) {
          const auto words = words_of(bits, dim, lane, tile);
          for (int half = 0; half < 2; ++half) {
            const BlockBytes bytes = decoded(bits, levels, words, dim, block + half);
            a.words[lane][2 * half] = bytes.row;
            a.words[lane][2 * half + 1] = bytes.next;
            std::uint32_t highs = 0, lows = 0;
            for (int byte = 0; byte < 4; ++byte) {
              const PlaneBytes& one = planes[static_cast<std::size_t>(query_of(lane)) * size +
                                             static_cast<std::size_t>(query_channel(lane, block + half, byte))];
              highs |= (static_cast<std::uint32_t>(one.high) & 255u) << (8 * byte);
              lows |= (static_cast<std::uint32_t>(one.low) & 255u) << (8 * byte);
            }
            of_high.words[lane][half] = highs;
            of_low.words[lane][half] = lows;
          }
        }
        test::multiply_u8s8(a, of_high, high);
        test::multiply_u8s8(a, of_low, low);
      }
      double error = 0, size_of_all = 0;
      for (int lane = 0; lane < warp_lanes; ++lane)
        for (int i = 0; i < 4; ++i) {
          const auto token = static_cast<std::size_t>(lane / 4 + i / 2 * 8),
                     q = static_cast<std::size_t>(lane % 4 * 2 + i % 2);
          const float found = score(high.values[lane][i], low.values[lane][i], sums[q], steps[q],
                                    levels.step * scalars[token] / std::sqrt(static_cast<float>(dim)));
          double expected = 0, length = 0;
          for (std::size_t c = 0; c < size; ++c) {
            expected += static_cast<double>(queries[q * size + c]) * static_cast<double>(keys[token * size + c]);
            length += std::pow(static_cast<double>(keys[token * size + c]), 2);
          }
          error += std::pow(static_cast<double>(found) - expected, 2) / length;
          size_of_all += expected * expected / length;
        }
      // A level of a byte is off by half a step at most, 1/255 of the largest level; two bits have both levels but for
      // rounding.
      CHECK(std::sqrt(error / size_of_all) < 0.012);
    }
}

TEST_CASE("weighted sums from tiles of values and tensor products are those of the codes") {
  std::mt19937 random(13);
  for (const int bits : {2, 3, 4})
    for (const int dim : {64, 256}) {
      CAPTURE(bits);
      CAPTURE(dim);
      const LevelBytes levels = bytes_of_levels(bits);
      const auto codes = random_codes(bits, dim, 17);
      const auto tile = tile_of(bits, dim, false, codes);
      double weights[tile_tokens][8], sums[8] = {};
      for (auto& row : weights)
        for (int q = 0; q < 8; ++q) sums[q] += row[q] = static_cast<double>(random() % 1000) / 1000;
      test::HalvesB b;  // tokens are the inner side
      for (int lane = 0; lane < warp_lanes; ++lane)
        for (int pair = 0; pair < 2; ++pair)
          for (int i = 0; i < 2; ++i) b.pairs[lane][pair][i] = weights[lane % 4 * 2 + i + pair * 8][lane / 4];
      for (int block = 0; block < dim / block_channels; ++block) {
        test::HalvesA a;
        for (int lane = 0; lane < warp_lanes; ++lane) {
          const BlockBytes bytes = decoded(bits, levels, words_of(bits, dim, lane, tile), dim, block);
          for (int i = 0; i < 4; ++i) {  // bytes less 127, as the card has them: half a step is left
            a.pairs[lane][i / 2 * 2][i % 2] = static_cast<double>(bytes.row >> (8 * i) & 255u) - 127;
            a.pairs[lane][i / 2 * 2 + 1][i % 2] = static_cast<double>(bytes.next >> (8 * i) & 255u) - 127;
          }
        }
        test::Sums c;
        test::multiply_halves(a, b, c);
        bool same = true;
        for (int lane = 0; lane < warp_lanes; ++lane)
          for (int i = 0; i < 4; ++i) {
            const int channel = block * block_channels + lane / 4 + i / 2 * 8, q = lane % 4 * 2 + i % 2;
            double expected = 0;
            for (int token = 0; token < tile_tokens; ++token) {
              const std::uint32_t index = codes[static_cast<std::size_t>(token * dim + channel)],
                                  m = magnitude_of(bits, index);
              const double byte = (m < 4 ? levels.low >> (8 * m) : levels.high >> (8 * (m - 4))) & 255u;
              expected += weights[token][q] * (byte - 127.5) * (is_negative(bits, index) ? -1 : 1);
            }
            same = same && std::abs(c.values[lane][i] - 0.5 * sums[q] - expected) < 1e-9;
          }
        CHECK(same);
      }
    }
}
