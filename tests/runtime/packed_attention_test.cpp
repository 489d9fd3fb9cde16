#include "codec/codebook.h"
#include "codec/trellis/levels.h"
#include "packed_block.h"
#include "support/sanitized.h"

namespace tqkv::cpu {
namespace {

std::vector<codec::SideCodec> packed_codecs() {
  std::vector<codec::SideCodec> all;
  for (const int dim : {64, 128, 256, 512})
    for (const int bits : {2, 3, 4, 5})
      all.push_back(codec::side_codec({Kind::turboquant, bits, 0, KvScalar::corrected}, dim));
  for (const int dim : {64, 128, 192, 256})
    for (const int bits : {4, 8}) all.push_back(codec::side_codec({Kind::affine, bits, 64, {}}, dim));
  for (const int bits : {4, 8}) all.push_back(codec::side_codec({Kind::rotated_affine, bits, 128, {}}, 256));
  return all;
}

/// With the plain ones that some processors multiply as they are, and the trellis.
std::vector<codec::SideCodec> attended_codecs() {
  auto all = packed_codecs();
  for (const int dim : {64, 96, 256}) all.push_back(codec::side_codec({Kind::plain, 16, 0, {}}, dim));
  for (const int bits : {2, 3, 4, 5}) {
    for (const int dim : {64, 128, 512}) all.push_back(trellis_codec(bits, codec::default_states(bits), dim));
    for (const int states : codec::trellis_states(bits)) all.push_back(trellis_codec(bits, states, 256));
  }
  return all;
}

// The centroids of packed keys in 8 bits: factors of kernels/packed_tile-inl.h.
constexpr double key_factor[] = {46.01464, 40.66096, 38.00934, 36.08938};
constexpr double key_fit[] = {0.9927574, 0.9935417, 0.9946514, 0.9980941};

}  // namespace

TEST_CASE("Integer scores are those of the scalar twin to the last unit, for any codes and sizes") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(41);
    for (const auto& codec : packed_codecs()) {
      if (!kernels.attention.packed_keys(codec)) continue;
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      for (const Case& one : cases) {
        const int n = one.n, queries = one.queries;
        const Side keys = any_codes(codec, n, normal);
        const auto query = any_queries(queries, codec.dim, normal);
        std::vector<int> seen;
        for (int i = 0; i < queries; ++i) seen.push_back(i == 0 ? n : normal.below(n + 1));
        Block block(kernels, query, codec.dim);
        const auto& got = block.scores(keys, n, seen);
        const int groups = keys.groups(), group = codec.dim / groups, bits = codec.format.bits;
        int wrong = 0;
        for (int j = 0; j < n; ++j) {
          const auto index = keys.indices(j);
          for (int i = 0; i < queries; ++i) {
            if (j >= seen[size(i)]) continue;
            double expected = 0, allowed = 0;
            for (int g = 0; g < groups; ++g) {
              const float* x = query.data() + i * codec.dim + g * group;
              float most = 0;
              for (int c = 0; c < group; ++c) most = std::max(most, std::abs(x[c]));
              std::int64_t products = 0, sum = 0;
              for (int c = 0; c < group; ++c) {
                const auto q = most > 0 ? std::lrint(x[c] * (127.0f / most)) : 0;
                const int code = index[size(g * group + c)];
                const auto byte =
                    keys.turboquant()
                        ? std::lrint(static_cast<float>(static_cast<double>(codec::centroids(bits)[size(code)]) *
                                                        key_factor[bits - 2]))
                        : code;
                products += q * byte;
                sum += q;
              }
              const double unit = keys.turboquant() ? key_fit[bits - 2] / key_factor[bits - 2] : 1.0;
              const double scale = static_cast<double>(most) / 127 * static_cast<double>(keys.scale(j, g)) * unit;
              const double bias = static_cast<double>(keys.bias(j, g)) * static_cast<double>(most) / 127;
              expected += scale * static_cast<double>(products) + bias * static_cast<double>(sum);
              allowed += std::abs(scale) * (0.4 + 4e-7 * static_cast<double>(std::abs(products))) +
                         4e-7 * std::abs(bias * static_cast<double>(sum));
            }
            wrong += !(std::abs(static_cast<double>(got[size(i * tile + j)]) - expected) <= allowed);
          }
        }
        CAPTURE(n);
        CAPTURE(queries);
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("Integer products of weights and values are those of the scalar twin, sums near 2^31 too") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(42);
    for (const auto& codec : packed_codecs()) {
      if (!kernels.attention.packed_values(codec)) continue;
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      for (const Case& one : cases) {
        const int n = one.n, queries = one.queries;
        Side values = any_codes(codec, n, normal);
        std::vector<int> seen;
        std::vector<float> weights(size(queries * tile), std::nanf(""));
        for (int i = 0; i < queries; ++i) {
          seen.push_back(i == 0 ? n : normal.below(n + 1));
          for (int j = 0; j < n; ++j)  // equal ones, so that all words are the largest, or any, or a spike
            weights[size(i * tile + j)] = j >= seen[size(i)] ? 0.0f
                                          : i % 3 == 0       ? 0.75f
                                          : i % 3 == 1       ? normal.uniform()
                                                             : (j == 5 ? 1.0f : 1e-3f * normal.uniform());
        }
        if (values.turboquant() && queries == 8) {  // the largest centroid everywhere, at one scale
          std::fill(values.codes.begin(), values.codes.end(), std::byte{255});
          for (int j = 1; j < n; ++j) std::memcpy(values.scalars.data() + 2 * j, values.scalars.data(), 2);
        }
        Block block(kernels, std::vector<float>(size(queries * codec.dim)), codec.dim);
        const auto& got = block.weighted(values, n, seen, weights);
        const int groups = values.groups(), group = codec.dim / groups, bits = codec.format.bits;
        const float top = values.turboquant() ? codec::centroids(bits).back() : 1.0f;
        const float unit = values.turboquant() ? top / 4095.0f : 1.0f, limit = values.turboquant() ? 8191.0f : 32767.0f;
        std::vector<std::vector<std::uint8_t>> index;
        for (int j = 0; j < n; ++j) index.push_back(values.indices(j));
        int wrong = 0;
        for (int i = 0; i < queries; ++i)
          for (int g = 0; g < groups; ++g) {
            std::vector<double> weight;
            double most = 0, bias = 0, sizes = 0;
            for (int j = 0; j < n; ++j) {
              const double p = static_cast<double>(weights[size(i * tile + j)]);
              weight.push_back(p * static_cast<double>(values.scale(j, g)) * static_cast<double>(unit));
              most = std::max(most, std::abs(weight.back()));
              bias += p * static_cast<double>(values.bias(j, g));
              sizes += std::abs(p * static_cast<double>(values.bias(j, g)));
            }
            const double factor = most / static_cast<double>(limit);
            for (int c = g * group; c < (g + 1) * group; ++c) {
              double expected = 0, magnitude = 0, slack = 0;
              for (int j = 0; j < n && most > 0; ++j) {
                const int code = index[size(j)][size(c)];
                const double byte =
                    values.turboquant()
                        ? std::rint(static_cast<double>(codec::centroids(bits)[size(code)] * (4095.0f / top)))
                        : code;
                const double exact = weight[size(j)] / factor, word = std::rint(exact);
                expected += word * byte;
                magnitude += std::abs(word * byte);
                if (std::abs(std::abs(exact - std::floor(exact)) - 0.5) < 0.01) slack += std::abs(byte);  // may tie
              }
              const double allowed = factor * (0.4 + slack + 1e-6 * magnitude) + 1e-6 * sizes;
              wrong += !(std::abs(static_cast<double>(got[size(i * codec.dim + c)]) - (expected * factor + bias)) <=
                         allowed);
            }
          }
        CAPTURE(n);
        CAPTURE(queries);
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE(
    "Attention on packed vectors is attention on the decoded ones to 1%, and to 0.1% where only values are packed") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(43);
    for (const auto& codec : attended_codecs()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      const int dim = codec.dim;
      CAPTURE(dim);
      for (const Case& one : {Case{1, 3}, Case{65, 8}, Case{191, 6}, Case{450, 17}}) {
        const int n = one.n, queries = one.queries;
        CAPTURE(n);
        if (test::sanitized && n > 65) continue;
        const Side keys(codec, normal(size(n * dim))), values(codec, normal(size(n * dim)));
        const auto query = normal(size(queries * dim), 1.0f / std::sqrt(static_cast<float>(dim)));
        std::vector<int> visible;  // a causal edge
        for (int i = 0; i < queries; ++i) visible.push_back(std::max(1, n - queries + 1 + i));
        const auto exact = exact_attention(query, keys.decoded(), values.decoded(), dim, visible);
        const auto run = [&](bool pack_keys, bool pack_values) {
          return Block(kernels, query, dim).attend(keys, values, visible, pack_keys, pack_values);
        };
        CHECK(relative(run(true, true), exact) < 1e-2);
        CHECK(relative(run(true, false), exact) < 1e-2);
        // Weights of plain values are rounded to bf16, half a unit of 2^-8 at most.
        CHECK(relative(run(false, true), exact) < (codec.format.kind == Kind::plain ? 2e-3 : 1e-3));
        CHECK(relative(run(false, false), exact) < 1e-5);
      }
    }
  });
}

TEST_CASE("What a query gets from packed vectors does not depend on the other queries of its block") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(44);
    for (const auto& codec : attended_codecs()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      const int dim = codec.dim, n = 149, queries = 15;
      const Side keys(codec, normal(size(n * dim))), values(codec, normal(size(n * dim)));
      const auto query = normal(size(queries * dim), 0.2f);
      std::vector<int> visible;
      for (int i = 0; i < queries; ++i) visible.push_back(1 + normal.below(n));
      const auto together = Block(kernels, query, dim).attend(keys, values, visible, true, true);
      for (const int i : {0, 3, 7, 8, 14}) {
        const std::vector<float> own(query.begin() + i * dim, query.begin() + (i + 1) * dim);
        const auto alone = Block(kernels, own, dim).attend(keys, values, {visible[size(i)]}, true, true);
        CHECK(std::equal(alone.begin(), alone.end(), together.begin() + i * dim));
      }
    }
  });
}

TEST_CASE("Packed pages with one spike and a flat tail keep their tail, and uniform attention over 32K keys its mean") {
  for_every_isa([](const Kernels& kernels) {
    const int dim = 64;
    for (const auto& codec : attended_codecs()) {
      if (codec.dim != dim || !kernels.attention.packed_values(codec)) continue;
      const std::string format = codec.format.describe();
      CAPTURE(format);
      Normal normal(45);
      const int page = 256, n = 4 * page;
      const auto plain = codec::side_codec({Kind::plain, 32, 0, {}}, dim);
      std::vector<float> query(size(dim), 0.0f), keys(size(n * dim), 0.0f), values(size(n * dim));
      query[0] = 1.0f;
      for (int j = 0; j < n; ++j) {
        const bool spike = j % page == 100;
        keys[size(j * dim)] = spike ? 6.5f : 0.0f;  // a spike has the weight of 665 tail keys
        for (int c = 0; c < dim; ++c) values[size(j * dim + c)] = (spike ? -1.0f : 1.0f) + 0.5f * normal();
      }
      const Side packed(codec, values);
      CHECK(relative(Block(kernels, query, dim).attend(Side(plain, keys), packed, {n}, false, true),
                     exact_attention(query, keys, packed.decoded(), dim, {n})) < 1e-3);

      const int long_n = test::sanitized ? 2048 : 32768;
      std::vector<float> same(size(long_n * dim), 0.25f), long_values(size(long_n * dim));
      for (auto& v : long_values) v = 1.0f + normal();
      const Side long_packed(codec, long_values);
      CHECK(relative(Block(kernels, query, dim).attend(Side(plain, same), long_packed, {long_n}, false, true),
                     exact_attention(query, same, long_packed.decoded(), dim, {long_n})) < 1e-3);
    }
  });
}

TEST_CASE("A query that sees nothing of a packed tile is left as it was") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(46);
    const auto codec = codec::side_codec({Kind::turboquant, 4, 0, KvScalar::best}, 64);
    const Side side(codec, normal(size(100 * 64)));
    const auto query = normal(size(2 * 64));
    // The second tile is hidden from the first query, both tiles but one key from the second.
    const auto out = Block(kernels, query, 64).attend(side, side, {64, 1}, true, true);
    const auto exact = exact_attention(query, side.decoded(), side.decoded(), 64, {64, 1});
    CHECK(relative(out, exact) < 2e-2);
  });
}

}  // namespace tqkv::cpu
