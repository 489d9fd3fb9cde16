#include "codec/trellis/levels.h"
#include "packed_block.h"

namespace tqkv::cpu {
namespace {

std::vector<codec::SideCodec> trellis_codecs(std::initializer_list<int> dims) {
  std::vector<codec::SideCodec> all;
  for (const int dim : dims)
    for (const int bits : {2, 3, 4, 5})
      for (const int states : codec::trellis_states(bits)) all.push_back(trellis_codec(bits, states, dim));
  return all;
}

/// Vectors of every size and shape: zero, constant, tiny, huge, and normal ones.
std::vector<float> some_vectors(int n, int dim, Normal& normal) {
  auto x = normal(size(n * dim), 2.5f);
  const auto d = static_cast<std::ptrdiff_t>(dim);
  for (int i = 0; i < n; ++i) {
    const auto row = x.begin() + i * d;
    if (i % 16 == 3) std::fill_n(row, d, 0.0f);
    if (i % 16 == 5) std::fill_n(row, d, -3.25f);
    const float factor = i % 16 == 7 ? 1e-6f : i % 16 == 9 ? 1e3f : i % 16 == 11 ? 1e-38f : 1.0f;
    std::for_each(row, row + d, [=](float& value) { value *= factor; });
  }
  return x;
}

}  // namespace

TEST_CASE("Fast trellis encoding writes the codes of the scalar search, for any number of vectors at once") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(61);
    for (const auto& codec : trellis_codecs({16, 32, 64, 256, 1024})) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      for (const int n : {1, 2, 13, 16, 21}) {
        if (codec.dim == 1024 && n != 21) continue;
        CAPTURE(n);
        const auto x = some_vectors(n, codec.dim, normal);
        const Side expected(codec, x);
        Side got(codec, n);
        const std::size_t stride = size(codec.dim) + 3;
        std::vector<float> strided(size(n) * stride);
        for (int i = 0; i < n; ++i)
          std::copy_n(x.begin() + i * codec.dim, codec.dim,
                      strided.begin() + static_cast<std::ptrdiff_t>(size(i) * stride));
        kernels.attention.encode(codec, strided.data(), static_cast<std::ptrdiff_t>(stride), n, got.codes.data(),
                                 got.scalars.data());
        // Sums of squares have another order here: a factor that differs in its last bit moves every cost.
        int different = 0;
        for (int i = 0; i < n; ++i) {
          different += std::memcmp(got.codes_at(i), expected.codes_at(i), codec.code_bytes) != 0;
          CHECK(std::abs(static_cast<int>(load<std::uint16_t>(got.scalars_at(i))) -
                         static_cast<int>(load<std::uint16_t>(expected.scalars_at(i)))) <= 1);
        }
        CHECK(different == 0);
      }
    }
  });
}

TEST_CASE("Every scalar of a trellis vector is that of the scalar codec to the last bit of its f16") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(62);
    for (const auto scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best}) {
      const auto codec = trellis_codec(3, 8, 128, scalar);
      const auto x = normal(size(40 * 128));
      const Side expected(codec, x);
      Side got(codec, 40);
      kernels.attention.encode(codec, x.data(), 128, 40, got.codes.data(), got.scalars.data());
      CHECK(got.codes == expected.codes);
      for (int i = 0; i < 40; ++i)
        CHECK(std::abs(static_cast<int>(load<std::uint16_t>(got.scalars_at(i))) -
                       static_cast<int>(load<std::uint16_t>(expected.scalars_at(i)))) <= 1);
    }
  });
}

TEST_CASE("Fast trellis decoding gives the floats of the scalar codec to the bit, for any bytes") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(63);
    for (const auto& codec : trellis_codecs({16, 32, 64, 128, 256, 1024})) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      const int n = 7;
      const Side side = any_codes(codec, n, normal);
      std::vector<float> x(size(n * codec.dim), -1.0f);
      kernels.attention.decode(codec, side.codes.data(), side.scalars.data(), n, x.data());
      const auto expected = side.decoded();
      CHECK(std::memcmp(x.data(), expected.data(), 4 * x.size()) == 0);
    }
  });
}

TEST_CASE("Integer scores of trellis keys are those of the scalar twin to the last unit, for any codes and sizes") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(64);
    for (const auto& codec : trellis_codecs({64, 128, 256, 512})) {
      if (!kernels.attention.packed_keys(codec)) continue;
      const std::string format = codec.format.describe();
      CAPTURE(format);
      const int dim = codec.dim;
      CAPTURE(dim);
      const double step = static_cast<double>(codec::trellis_table(codec.format.bits, codec.format.states).step);
      for (const Case& one : cases) {
        const int n = one.n, queries = one.queries;
        const Side keys = any_codes(codec, n, normal);
        const auto query = any_queries(queries, dim, normal);
        std::vector<int> seen;
        for (int i = 0; i < queries; ++i) seen.push_back(i == 0 ? n : normal.below(n + 1));
        Block block(kernels, query, dim);
        const auto& got = block.scores(keys, n, seen);
        int wrong = 0;
        for (int j = 0; j < n; ++j) {
          const auto levels = keys.levels(j);
          for (int i = 0; i < queries; ++i) {
            if (j >= seen[size(i)]) continue;
            const float* x = query.data() + i * dim;
            float most = 0;
            for (int c = 0; c < dim; ++c) most = std::max(most, std::abs(x[c]));
            std::int64_t products = 0;
            for (int c = 0; c < dim; ++c)
              products += (most > 0 ? std::lrint(x[c] * (127.0f / most)) : 0) * levels[size(c)];
            const double scale = static_cast<double>(most) / 127 * static_cast<double>(keys.scale(j, 0)) * step;
            const double allowed = scale * (0.4 + 4e-7 * static_cast<double>(std::abs(products)));
            wrong += !(std::abs(static_cast<double>(got[size(i * tile + j)]) - scale * static_cast<double>(products)) <=
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

TEST_CASE("Integer products of weights and trellis values are those of the scalar twin, the largest ones too") {
  for_every_isa([](const Kernels& kernels) {
    Normal normal(65);
    const double limit = std::string_view(kernels.isa) == "avx512" ? 32639 : 32767;
    for (const auto& codec : trellis_codecs({64, 128, 256, 512})) {
      if (!kernels.attention.packed_values(codec)) continue;
      const std::string format = codec.format.describe();
      CAPTURE(format);
      const int dim = codec.dim;
      CAPTURE(dim);
      const double step = static_cast<double>(codec::trellis_table(codec.format.bits, codec.format.states).step);
      for (const Case& one : cases) {
        const int n = one.n, queries = one.queries;
        Side values = any_codes(codec, n, normal);
        if (queries == 8)  // at one scale, so that every word is the largest
          for (int j = 1; j < n; ++j) std::memcpy(values.scalars.data() + 2 * j, values.scalars.data(), 2);
        std::vector<int> seen;
        std::vector<float> weights(size(queries * tile), std::nanf(""));
        for (int i = 0; i < queries; ++i) {
          seen.push_back(i == 0 ? n : normal.below(n + 1));
          for (int j = 0; j < n; ++j)
            weights[size(i * tile + j)] = j >= seen[size(i)] ? 0.0f
                                          : i % 3 == 0       ? 0.75f
                                          : i % 3 == 1       ? normal.uniform()
                                                             : (j == 5 ? 1.0f : 1e-3f * normal.uniform());
        }
        Block block(kernels, std::vector<float>(size(queries * dim)), dim);
        const auto& got = block.weighted(values, n, seen, weights);
        std::vector<std::vector<int>> levels;
        for (int j = 0; j < n; ++j) levels.push_back(values.levels(j));
        int wrong = 0;
        for (int i = 0; i < queries; ++i) {
          std::vector<double> weight;
          double most = 0;
          for (int j = 0; j < n; ++j) {
            weight.push_back(static_cast<double>(weights[size(i * tile + j)]) *
                             static_cast<double>(values.scale(j, 0)) * step);
            most = std::max(most, std::abs(weight.back()));
          }
          const double factor = most / limit;
          for (int c = 0; c < dim; ++c) {
            double expected = 0, magnitude = 0, slack = 0;
            for (int j = 0; j < n && most > 0; ++j) {
              const double exact = weight[size(j)] / factor, word = std::rint(exact), level = levels[size(j)][size(c)];
              expected += word * level;
              magnitude += std::abs(word * level);
              if (std::abs(std::abs(exact - std::floor(exact)) - 0.5) < 0.01) slack += std::abs(level);  // may tie
            }
            const double allowed = factor * (0.4 + slack + 1e-6 * magnitude);
            wrong += !(std::abs(static_cast<double>(got[size(i * dim + c)]) - expected * factor) <= allowed);
          }
        }
        CAPTURE(n);
        CAPTURE(queries);
        CHECK(wrong == 0);
      }
    }
  });
}

}  // namespace tqkv::cpu
