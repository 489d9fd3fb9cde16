#include <limits>

#include "codec/rotation.h"
#include "encoded_vectors.h"

namespace tqkv::cpu {
namespace {

using Kind = SideFormat::Kind;
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Attention of one query in double over the first `visible` of the keys.
std::vector<double> exact_attention(const float* q, const std::vector<float>& keys, const std::vector<float>& values,
                                    int dim, int visible) {
  std::vector<double> weight(size(visible)), out(size(dim));
  double largest = -1e300, sum = 0;
  for (int j = 0; j < visible; ++j) {
    double s = 0;
    for (int c = 0; c < dim; ++c) s += static_cast<double>(q[c]) * static_cast<double>(keys[size(j * dim + c)]);
    weight[size(j)] = s;
    largest = std::max(largest, s);
  }
  for (double& w : weight) sum += w = std::exp(w - largest);
  for (int j = 0; j < visible; ++j)
    for (int c = 0; c < dim; ++c)
      out[size(c)] += weight[size(j)] / sum * static_cast<double>(values[size(j * dim + c)]);
  return out;
}

/// Attention of all queries over tiles of the sizes given, divided by the sums. visible[i] counts over all tiles.
std::vector<float> tiled_attention(const Kernels& kernels, const std::vector<float>& query,
                                   const std::vector<float>& keys, const std::vector<float>& values, int dim,
                                   const std::vector<int>& visible, const std::vector<int>& tiles) {
  const int queries = static_cast<int>(visible.size());
  std::vector<float> maximum(size(queries), -infinity), sum(size(queries), 0.0f), output(size(queries * dim), 0.0f),
      scratch(size(queries * 64), std::nanf(""));
  AttentionState state{queries, dim, query.data(), maximum.data(), sum.data(), output.data()};
  int at = 0;
  for (const int n : tiles) {
    std::vector<int> seen;
    for (const int v : visible) seen.push_back(std::clamp(v - at, 0, n));
    kernels.attention.attend(state, keys.data() + at * dim, values.data() + at * dim, n, seen.data(), scratch.data());
    at += n;
  }
  for (int i = 0; i < queries; ++i)
    for (int c = 0; c < dim; ++c) output[size(i * dim + c)] /= sum[size(i)];
  return output;
}

}  // namespace

TEST_CASE("Tiled attention agrees with softmax in double for any number of queries, keys and channels") {
  for_every_isa([](const Kernels& kernels) {
    for (const int dim : {16, 40, 64, 100, 256, 3})
      for (const int queries : {1, 2, 3, 4, 5, 6, 7, 8, 33}) {
        CAPTURE(dim);
        CAPTURE(queries);
        Normal normal(24);
        const std::vector<int> tiles{64, 13, 1, 64, 7, 50};
        const int n = 199;
        const auto query = normal(size(queries * dim), 3.0f / std::sqrt(static_cast<float>(dim)));
        const auto keys = normal(size(n * dim)), values = normal(size(n * dim));
        std::vector<int> visible;  // some see one key only, some nothing of the last tiles, one all
        for (int i = 0; i < queries; ++i) visible.push_back(i == 0 ? n : i == 1 ? 1 : 1 + normal.below(n));
        const auto out = tiled_attention(kernels, query, keys, values, dim, visible, tiles);
        std::vector<double> expected;
        for (int i = 0; i < queries; ++i) {
          const auto one = exact_attention(query.data() + i * dim, keys, values, dim, visible[size(i)]);
          expected.insert(expected.end(), one.begin(), one.end());
        }
        CHECK(distance(out, expected) < 1e-5);
      }
  });
}

TEST_CASE("What one query gets does not depend on the other queries of its block") {
  for_every_isa([](const Kernels& kernels) {
    for (const int dim : {40, 256}) {
      Normal normal(25);
      const std::vector<int> tiles{64, 64, 21};
      const int queries = 11, n = 149;
      const auto query = normal(size(queries * dim), 0.2f), keys = normal(size(n * dim)),
                 values = normal(size(n * dim));
      std::vector<int> visible;
      for (int i = 0; i < queries; ++i) visible.push_back(1 + normal.below(n));
      const auto together = tiled_attention(kernels, query, keys, values, dim, visible, tiles);
      for (int i = 0; i < queries; ++i) {
        const std::vector<float> own(query.begin() + i * dim, query.begin() + (i + 1) * dim);
        const auto alone = tiled_attention(kernels, own, keys, values, dim, {visible[size(i)]}, tiles);
        CHECK(std::equal(alone.begin(), alone.end(), together.begin() + i * dim));
      }
    }
  });
}

TEST_CASE("A query that sees nothing of a tile, the first one too, is left as it was") {
  for_every_isa([](const Kernels& kernels) {
    const int dim = 32;
    Normal normal(26);
    const auto query = normal(2 * dim), keys = normal(5 * dim), values = normal(5 * dim);
    std::vector<float> maximum{-infinity, -infinity}, sum{0, 0}, output(2 * dim, 0.0f), scratch(2 * 64);
    AttentionState state{2, dim, query.data(), maximum.data(), sum.data(), output.data()};
    const int visible[] = {0, 5};
    kernels.attention.attend(state, keys.data(), values.data(), 5, visible, scratch.data());
    CHECK(maximum[0] == -infinity);
    CHECK(sum[0] == 0.0f);
    CHECK(std::count(output.begin(), output.begin() + dim, 0.0f) == dim);
    CHECK(sum[1] > 0.0f);
    const int nothing[] = {0, 0};
    const auto before = output;
    kernels.attention.attend(state, keys.data(), values.data(), 5, nothing, scratch.data());
    CHECK(output == before);
  });
}

TEST_CASE("Pages with one spike and a flat tail keep their tail, and uniform attention over 32K keys its mean") {
  for_every_isa([](const Kernels& kernels) {
    const int dim = 16, pages = 4, page = 256, n = pages * page;
    Normal normal(27);
    std::vector<float> query(dim, 0.0f), keys(size(n * dim), 0.0f), values(size(n * dim));
    query[0] = 1.0f;
    for (int j = 0; j < n; ++j) {
      const bool spike = j % page == 100;
      keys[size(j * dim)] = spike ? 6.5f : 0.0f;  // a spike has the weight of 665 tail keys
      for (int c = 0; c < dim; ++c) values[size(j * dim + c)] = spike ? 0.0f : 1.0f + 0.1f * normal();
    }
    const auto out = tiled_attention(kernels, query, keys, values, dim, {n}, std::vector<int>(size(n / 64), 64));
    CHECK(distance(out, exact_attention(query.data(), keys, values, dim, n)) < 1e-5);

    const int long_n = 32768;
    std::vector<float> same(size(long_n * dim), 0.25f), long_values(size(long_n * dim));
    for (auto& v : long_values) v = 1.0f + normal();
    const auto mean =
        tiled_attention(kernels, query, same, long_values, dim, {long_n}, std::vector<int>(size(long_n / 64), 64));
    CHECK(distance(mean, exact_attention(query.data(), same, long_values, dim, long_n)) < 1e-4);
  });
}

TEST_CASE(
    "Attention over packed vectors is attention over the decoded ones, and rotated attention un-rotates to plain") {
  for_every_isa([](const Kernels& kernels) {
    for (const int bits : {2, 3, 4, 5}) {
      CAPTURE(bits);
      const int dim = 128, n = 100, queries = 3;
      const auto codec = codec::side_codec({Kind::turboquant, bits, 0, KvScalar::best}, dim);
      const auto signs = codec::rotation_signs(1, 2, 0, dim);
      Normal normal(28);
      const auto query = normal(size(queries * dim), 0.3f);
      auto k = normal(size(n * dim)), v = normal(size(n * dim));
      const auto through_cache = [&](std::vector<float> x) {
        kernels.attention.rotate(x.data(), dim, n, signs.data(), dim);
        auto encoded = room(codec, n);
        kernels.attention.encode(codec, x.data(), dim, n, encoded.codes.data(), encoded.scalars.data());
        kernels.attention.decode(codec, encoded.codes.data(), encoded.scalars.data(), n, x.data());
        return x;
      };
      const auto keys = through_cache(k), values = through_cache(v);  // rotated, decoded

      auto rotated_query = query;
      kernels.attention.rotate(rotated_query.data(), dim, queries, signs.data(), dim);
      const std::vector<int> visible(size(queries), n);
      auto out = tiled_attention(kernels, rotated_query, keys, values, dim, visible, {64, 36});
      std::vector<double> rotated_expected;
      for (int i = 0; i < queries; ++i) {
        const auto one = exact_attention(rotated_query.data() + i * dim, keys, values, dim, n);
        rotated_expected.insert(rotated_expected.end(), one.begin(), one.end());
      }
      CHECK(distance(out, rotated_expected) < 1e-5);

      auto plain_keys = keys, plain_values = values;
      for (int j = 0; j < n; ++j) {
        codec::unrotate({plain_keys.data() + j * dim, size(dim)}, signs);
        codec::unrotate({plain_values.data() + j * dim, size(dim)}, signs);
      }
      kernels.attention.unrotate(out.data(), dim, queries, signs.data(), dim);
      std::vector<double> expected;
      for (int i = 0; i < queries; ++i) {
        const auto one = exact_attention(query.data() + i * dim, plain_keys, plain_values, dim, n);
        expected.insert(expected.end(), one.begin(), one.end());
      }
      CHECK(distance(out, expected) < 1e-5);
    }
  });
}

}  // namespace tqkv::cpu
